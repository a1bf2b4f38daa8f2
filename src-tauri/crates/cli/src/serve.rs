//! `embedbar serve`: owns a home without a desktop, and shows the same interface in a browser.

use std::path::PathBuf;

use anyhow::Context as _;
use embedbar_app::{App, Options, Simulation};
use embedbar_contract::Failure;
use embedbar_store::Home;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Serve;
use crate::output;

pub(crate) async fn run(serve: Serve, home: Option<PathBuf>) -> anyhow::Result<()> {
    let home = Home::open(home).map_err(Failure::from)?;
    let _logging = embedbar_app::log_to_files(&home.logs())?;
    let simulation = match &serve.simulate {
        Some(name) => Some(Simulation::new(name, serve.simulate_speed)?),
        None => Simulation::from_environment()?,
    };
    let simulated = simulation.is_some();
    let options = Options {
        home: Some(home.root().to_owned()),
        model: serve.model,
        stay: true,
        simulation,
        worker_arguments: serve.backend.worker_arguments(),
        ..Options::default()
    };
    let app = App::start(options).await?;
    let token = embedbar_gateway::token(&home.token()).map_err(Failure::from)?;
    let mut gateway = embedbar_gateway::Options::new(token);
    gateway.port = serve.port;
    let server = match embedbar_gateway::serve(app.clone(), app.snapshots(), gateway).await {
        Ok(server) => server,
        Err(error) => {
            app.stop().await;
            return Err(Failure::from(error).into());
        }
    };
    let mark = if simulated { " (SIMULATED machine)" } else { "" };
    output::line(&format!("Embedbar is ready at {}{mark}", server.url()));
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be received")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    server.stop().await;
    app.stop().await;
    Ok(())
}
