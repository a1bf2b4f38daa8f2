//! The README's table, held against common sense: each expectation has its reason, and none of them was read off the
//! table.

use embedbar_planner::readme_table;

/// The cells of a row: idle, with Docker and an editor, under pressure.
fn row(mac: &str, model: &str) -> [String; 3] {
    let page = readme_table();
    let start = format!("| {mac} | {model} | ");
    let line =
        page.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("{start} is in the table"));
    let cells: Vec<String> = line.trim_end_matches(" |").split(" | ").map(str::to_owned).collect();
    cells.try_into().expect("three cells")
}

const MACS: [&str; 5] = ["8 GB", "16 GB", "24 GB", "32 GB", "64 GB"];
const MODELS: [&str; 4] = ["all-MiniLM-L6-v2", "Qwen3-Embedding-0.6B", "Qwen3-Embedding-4B", "Qwen3-Embedding-8B"];

/// How much a cell loads: nothing, 4-bit, INT8, FP16.
fn width(cell: &str) -> usize {
    ["none", "4-bit", "INT8", "FP16"]
        .iter()
        .position(|name| cell.starts_with(name))
        .unwrap_or_else(|| panic!("`{cell}`"))
}

#[test]
fn every_mac_and_model_has_a_row() {
    let page = readme_table();
    assert_eq!(page.lines().filter(|line| line.starts_with("| ")).count(), 1 + MACS.len() * MODELS.len());
    for mac in MACS {
        for model in MODELS {
            row(mac, model);
        }
    }
}

#[test]
fn the_bundled_model_is_loaded_on_every_mac_even_with_docker() {
    for mac in MACS {
        let [idle, docker, pressed] = row(mac, "all-MiniLM-L6-v2");
        assert!(width(&idle) > 0 && width(&docker) > 0 && width(&pressed) > 0, "{mac}: it takes a tenth of a GB");
    }
}

#[test]
fn a_mac_of_8_gb_has_no_room_for_4b_beside_docker_and_none_at_all_for_8b() {
    let [idle, docker, _] = row("8 GB", "Qwen3-Embedding-4B");
    // 4.5 GB are free and 1.5 GB stay so: INT8 has 4 GB of weights, 4-bit 2.3 GB.
    assert!(width(&idle) <= width("4-bit"), "{idle}");
    assert_eq!(docker, "none", "1.8 GB are free");
    let [idle, docker, _] = row("8 GB", "Qwen3-Embedding-8B");
    assert_eq!([idle.as_str(), docker.as_str()], ["none", "none"], "4-bit has 4.2 GB of weights");
}

#[test]
fn a_mac_of_16_gb_never_has_4b_in_fp16_nor_8b_in_int8() {
    let [idle, docker, pressed] = row("16 GB", "Qwen3-Embedding-4B");
    // The seed's machine: 7.5 GB of weights beside everything else is what made it swap.
    assert!(width(&idle) < width("FP16") && width(&idle) > 0, "{idle}");
    assert!(
        width(&docker) <= width("4-bit") && width(&docker) > 0,
        "5 GB are free, 1.3 GB stay so, INT8 has 4 GB of weights: {docker}"
    );
    assert!(width(&pressed) <= width(&docker) || pressed.ends_with("stays"), "{pressed}");
    let [idle, docker, _] = row("16 GB", "Qwen3-Embedding-8B");
    assert!(width(&idle) <= width("4-bit"), "INT8 has 7.5 GB of weights, 6 GB are to be had: {idle}");
    assert_eq!(docker, "none", "4-bit has 4.2 GB of weights, 3.7 GB are to be had");
}

#[test]
fn larger_macs_have_wider_models() {
    assert_eq!(
        row("64 GB", "Qwen3-Embedding-8B")[0],
        "FP16, Core ML (GPU)",
        "30 GB while it specialises; 50 are to be had"
    );
    assert!(width(&row("32 GB", "Qwen3-Embedding-8B")[0]) < width("FP16"), "26 GB are free");
    assert!(
        width(&row("32 GB", "Qwen3-Embedding-4B")[0]) == width("FP16"),
        "17 GB while it specialises; 23 are to be had"
    );
    assert!(width(&row("24 GB", "Qwen3-Embedding-4B")[1]) < width("FP16"), "11 GB are free");
    for mac in ["24 GB", "32 GB", "64 GB"] {
        assert_eq!(row(mac, "Qwen3-Embedding-0.6B")[0], "FP16, Core ML (Neural Engine)", "1.1 GB of weights");
    }
}

#[test]
fn less_room_is_never_answered_with_more() {
    for model in MODELS {
        for mac in MACS {
            let [idle, docker, pressed] = row(mac, model);
            assert!(width(&docker) <= width(&idle), "{mac} {model}: {docker} beside Docker, {idle} idle");
            assert!(width(&pressed) <= width(&docker), "{mac} {model}: {pressed} under pressure, {docker} before");
        }
        for busy in 0..2 {
            let widths: Vec<usize> = MACS.iter().map(|mac| width(&row(mac, model)[busy])).collect();
            assert!(widths.is_sorted(), "{model}: {widths:?}");
        }
    }
}

#[test]
fn under_pressure_something_narrower_is_taken_where_there_is_anything() {
    let [_, docker, pressed] = row("32 GB", "Qwen3-Embedding-4B");
    assert!(width(&pressed) < width(&docker), "{docker} to {pressed}");
}

#[test]
fn the_bundled_model_is_not_replaced_for_the_few_megabytes_that_it_would_give_back() {
    for mac in MACS {
        let [_, docker, pressed] = row(mac, "all-MiniLM-L6-v2");
        assert_eq!(pressed, format!("{} stays", docker.split(',').next().unwrap_or_default()), "{mac}");
    }
}

#[test]
fn the_table_says_what_it_is() {
    let page = readme_table();
    assert!(page.contains("None of it ran on\na Mac.") && page.contains("16 GB: 4.5 and 11.0 GB"));
}
