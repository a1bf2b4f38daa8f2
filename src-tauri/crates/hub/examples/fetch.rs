//! Downloads a model to the shared cache, as the environment says: `fetch OWNER/NAME [PATTERN…]`.
//!
//! With `HF_HUB_OFFLINE=1` it prints where the cache has it; `fetch --settings` prints what the environment says. For trying
//! the crate by hand, for measuring it, and for `tests/hub`.

use std::env;
use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use embedbar_hub::{Chosen, HubCache, HubClient, HubOptions, HubSettings, Target, Transfer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (id, patterns) = arguments.split_first().ok_or("usage: fetch OWNER/NAME [PATTERN…]")?;
    if id == "--settings" {
        let settings = HubSettings::from_lookup(|name| env::var(name).ok())?;
        let (truth, token) = (|it: bool| if it { "True" } else { "False" }, settings.token.is_some());
        let endpoint = settings.endpoint.as_str().trim_end_matches('/');
        let (offline, token) = (truth(settings.offline), truth(token));
        writeln!(std::io::stdout(), "{}|{offline}|{token}|{endpoint}", settings.cache.display())?;
        return Ok(());
    }
    let id = id.parse()?;
    let chosen = Chosen::new(patterns.iter().map(String::as_str))?;
    let client = HubClient::new(HubSettings::from_lookup(|name| env::var(name).ok())?, HubOptions::default())?;
    let mut output = std::io::stdout();
    if client.settings().offline {
        writeln!(output, "{}", client.cached(&id, "main", &chosen, &[])?.display())?;
        return Ok(());
    }
    let started = Instant::now();
    let target = Target::Cache(HubCache::new(&client.settings().cache));
    let snapshot = client.snapshot(&id, "main", &chosen).await?;
    let missing = snapshot.missing(&target);
    let folder = client.download(&snapshot, &target, &Transfer::new()).await?;
    let seconds = started.elapsed().as_secs_f64();
    writeln!(output, "{}", folder.display())?;
    writeln!(output, "{missing} bytes in {seconds:.2} s: {:.0} MB/s", missing as f64 / seconds / 1e6)?;
    Ok(())
}
