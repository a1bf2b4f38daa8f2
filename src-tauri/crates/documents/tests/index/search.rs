//! What a search finds, in which order, and what it shows.

use std::sync::atomic::{AtomicBool, Ordering};

use embedbar_contract::{Failure, FailureCode, FoundBy, SearchRequest};
use embedbar_documents::{Control, MeaningStatus, QueryVector};
use proptest::prelude::*;

use crate::support::{Desk, Hashing, generation, request, search};

#[test]
fn a_planted_sentence_is_found_first_with_its_line_and_its_words_marked() {
    let mut files = vec![("guide.md".to_owned(), String::new())];
    let filler = "The harbour was calm and the boats were tied to the pier.\n".repeat(30);
    files[0].1 =
        format!("# Boats\n\n{filler}\n## Weather\n\n{filler}\nThe quokka naps under a\nflorid umbrella.\n\n{filler}");
    files.extend((0..40).map(|it| (format!("other{it}.txt"), filler.clone())));
    let desk = Desk::new(&[]);
    for (name, text) in &files {
        desk.write(name, text);
    }
    let embedder = Hashing::new("a");
    desk.refresh(&embedder);
    let found = search(&desk.index, &embedder, "florid QUOKKA umbrel");
    let hit = &found.hits[0];
    assert_eq!(hit.path, desk.path("guide.md").to_str().unwrap());
    assert_eq!(hit.line, files[0].1.lines().position(|line| line.contains("quokka")).unwrap() + 1);
    assert_eq!(hit.matched, ["florid", "quokka", "umbrel"]);
    assert_eq!(hit.found_by, FoundBy::Both);
    assert!(hit.cosine.unwrap() > 0.0);
    let characters: Vec<char> = hit.snippet.chars().collect();
    let marked: Vec<String> = hit.marks.iter().map(|it| characters[it.start..it.end].iter().collect()).collect();
    assert_eq!(marked, ["quokka", "florid", "umbrella"]);
    assert_eq!(
        found.meaning,
        MeaningStatus::Searched { embedded: embedder.take_texts().len() as u64, passages: found_passages(&desk) }
    );
    assert!(found.hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
}

fn found_passages(desk: &Desk) -> u64 {
    rusqlite::Connection::open(desk.database())
        .unwrap()
        .query_row("SELECT count(*) FROM contents", [], |row| row.get::<_, i64>(0))
        .unwrap() as u64
}

#[test]
fn the_words_of_a_web_page_are_found_on_the_line_of_its_source() {
    let page = "<html>\n<head><title>Birds</title></head>\n<body>\n<p>First\nparagraph</p>\n<p class=\"a\">The <em>cormorant</em>\n  dives</p></body></html>";
    let desk = Desk::new(&[("page.html", page)]);
    desk.refresh(&Hashing::new("a"));
    let hit = &desk.index.search(&request("dives"), None).unwrap().hits[0];
    assert_eq!((hit.line, hit.snippet.as_str()), (7, "First paragraph The cormorant dives"));
}

#[test]
fn identifiers_phrases_names_and_other_scripts_are_found() {
    let desk = Desk::new(&[
        ("one.rs", "let x = foo_bar::baz(1);"),
        ("two.rs", "foo(); bar(); and somewhere else baz"),
        ("chinese.md", "当内存压力升高时,模型会被换出。"),
        ("german.txt", "Die Größe der Übersicht"),
        ("quarterly-report.txt", "nothing to see"),
        ("a/setup/README", "how to begin"),
    ]);
    desk.refresh(&Hashing::new("a"));
    assert_eq!(desk.by_words("foo_bar::baz"), ["one.rs", "two.rs"]);
    assert_eq!(desk.by_words("\"foo bar baz\" absent")[0], "one.rs");
    assert_eq!(desk.by_words("内存压力"), ["chinese.md"]);
    assert_eq!(desk.by_words("große ubersicht"), ["german.txt"]);
    assert_eq!(desk.by_words("quarterly report"), ["quarterly-report.txt"]);
    assert_eq!(desk.by_words("setup readme"), ["a/setup/README"]);
    assert_eq!(desk.by_words("begi"), ["a/setup/README"]);
    // Not all words in one passage: then any of them.
    assert_eq!(desk.by_words("übersicht of everything"), ["german.txt"]);
    assert!(desk.by_words("?!").is_empty());
}

#[test]
fn an_empty_query_and_a_limit_out_of_range_are_refused_with_a_sentence() {
    let desk = Desk::new(&[]);
    let failure = Failure::from(desk.index.search(&request(" \n"), None).unwrap_err());
    assert_eq!((failure.code, failure.message.as_str()), (FailureCode::InvalidRequest, "the query is empty"));
    for limit in [0, 201] {
        let request = SearchRequest { query: "a".into(), limit };
        let failure = Failure::from(desk.index.search(&request, None).unwrap_err());
        assert_eq!(failure.message, format!("the limit is `{limit}` where 1 to 200 is allowed"));
    }
    let (vector, generation) = (vec![1.0; 64], generation("a"));
    let found =
        desk.index.search(&request("a"), Some(QueryVector { vector: &vector, generation: &generation })).unwrap();
    assert!(found.hits.is_empty() && found.searched_chunks == 0 && found.meaning.degraded().is_none());
    desk.write("a.txt", "text");
    desk.refresh(&Hashing::new("a"));
    let query = QueryVector { vector: &vector[..3], generation: &generation };
    assert!(desk.index.search(&request("a"), Some(query)).unwrap_err().to_string().contains("3 numbers where 64"));
}

#[test]
fn copies_of_a_text_do_not_push_out_other_files() {
    let desk = Desk::new(&[]);
    (0..30).for_each(|it| desk.write(&format!("copy{it:02}/LICENSE"), "permission is hereby granted to the pelican"));
    desk.write(
        "story.txt",
        "a pelican was granted a fish, with permission, and many more words that follow after it here",
    );
    let embedder = Hashing::new("a");
    desk.refresh(&embedder);
    assert_eq!(embedder.take_texts().len(), 2);
    let found = search(&desk.index, &embedder, "pelican permission granted");
    assert_eq!(desk.names(&found)[..2], ["copy00/LICENSE", "story.txt"]);
    assert_eq!(found.searched_chunks, 31);
}

#[test]
fn searches_are_answered_while_a_refresh_runs() {
    let desk = Desk::new(&[("first.txt", "lapwing at the start")]);
    let embedder = Hashing::new("a");
    desk.refresh(&embedder);
    (0..300).for_each(|it| desk.write(&format!("{it}.txt"), format!("plover number {it} {}", "wade ".repeat(it))));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let searchers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = 0;
                    while !done.load(Ordering::SeqCst) {
                        let found = search(&desk.index, &Hashing::new("a"), "lapwing start");
                        assert_eq!(desk.names(&found)[0], "first.txt");
                        assert!(found.searched_chunks >= last);
                        last = found.searched_chunks;
                    }
                })
            })
            .collect();
        desk.index.refresh(&desk.path(""), &embedder, &Control::new(), &mut |_| {}).unwrap();
        done.store(true, Ordering::SeqCst);
        for searcher in searchers {
            searcher.join().unwrap();
        }
    });
    assert_eq!(search(&desk.index, &embedder, "plover 250").meaning.degraded(), None);
    let before = search(&desk.index, &embedder, "plover 250");
    assert!(desk.index.release_memory() > 0);
    assert_eq!(search(&desk.index, &embedder, "plover 250"), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// With a query that has no word in the index only the vectors decide, and their order can be computed apart.
    #[test]
    fn the_order_by_meaning_is_that_of_the_cosines(
        texts in proptest::collection::btree_set("[a-f]{1,2}( [a-f]{1,2}){0,6}", 1..25), query in "[a-f]{1,2}( [a-f]{1,2}){0,6}",
    ) {
        let desk = Desk::new(&[]);
        let texts: Vec<String> = texts.into_iter().collect();
        texts.iter().enumerate().for_each(|(at, text)| desk.write(&format!("{at:02}.txt"), text));
        let embedder = Hashing::new("a");
        desk.refresh(&embedder);
        let (vector, generation) = (embedder.vector(&query), generation("a"));
        let request = SearchRequest { query: "zzz".into(), limit: 200 };
        let found = desk.index.search(&request, Some(QueryVector { vector: &vector, generation: &generation })).unwrap();
        let naive = |path: &str| {
            let other = embedder.vector(&std::fs::read_to_string(path).unwrap());
            other.iter().zip(&vector).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        let cosines: Vec<f64> = found.hits.iter().map(|hit| naive(&hit.path)).collect();
        // Half precision decides between what is closer than this.
        prop_assert!(cosines.windows(2).all(|pair| pair[0] >= pair[1] - 2e-3), "{cosines:?}");
        prop_assert_eq!(found.hits.len(), texts.len());
        for (hit, naive) in found.hits.iter().zip(cosines) {
            prop_assert!((f64::from(hit.cosine.unwrap()) - naive).abs() < 1e-3);
            prop_assert_eq!(hit.found_by, FoundBy::Meaning);
        }
    }
}
