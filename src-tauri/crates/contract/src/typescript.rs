//! The TypeScript half of the contract, made from the Rust half.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ts_rs::{Config, TS, TypeVisitor};

use crate::Failure;
use crate::commands::{signatures, visit_types};
use crate::types::Snapshot;

struct Collect<'a> {
    config: &'a Config,
    declarations: BTreeMap<String, String>,
}

impl TypeVisitor for Collect<'_> {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        if T::output_path().is_none() {
            return; // a built-in type
        }
        let name = T::ident(self.config);
        if self.declarations.contains_key(&name) {
            return;
        }
        let mut text = T::docs().unwrap_or_default();
        let _ = writeln!(text, "export {}", T::decl(self.config));
        self.declarations.insert(name, text);
        T::visit_dependencies(self);
    }
}

/// The text of `ui/src/contract/contract.ts`.
pub fn typescript() -> String {
    // A laptop's byte counts stay far below 2^53.
    let config = Config::new().with_large_int("number");
    let mut collect = Collect { config: &config, declarations: BTreeMap::new() };
    collect.visit::<Snapshot>();
    collect.visit::<Failure>();
    visit_types(&mut collect);

    let mut text =
        String::from("// Generated from src-tauri/crates/contract by `cargo xtask contract`. Do not edit.\n\n");
    for declaration in collect.declarations.values() {
        text.push_str(declaration);
        text.push('\n');
    }
    text.push_str("/** Every command: what it takes and what it gives. */\nexport interface Commands {\n");
    for (name, documentation, parameters, reply) in signatures(&config) {
        let _ = writeln!(text, "  /**{documentation} */\n  {name}: {{ params: {parameters}; reply: {reply} }};");
    }
    text.push_str("}\n");
    text
}
