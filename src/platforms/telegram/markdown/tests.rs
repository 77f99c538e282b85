use super::*;

fn bold(offset: i32, length: i32) -> enums::MessageEntity {
    Style::Bold.entity(offset, length)
}

fn italic(offset: i32, length: i32) -> enums::MessageEntity {
    Style::Italic.entity(offset, length)
}

#[test]
fn marks_become_entities_and_entities_marks() {
    for (markdown, plain, entities) in [
        ("plain", "plain", vec![]),
        ("**bold** end", "bold end", vec![bold(0, 4)]),
        ("an _italic_ word", "an italic word", vec![italic(3, 6)]),
        ("~~gone~~", "gone", vec![Style::Strike.entity(0, 4)]),
        ("`let x = **1**;`", "let x = **1**;", vec![Style::Code.entity(0, 14)]),
        ("😀 **né 👍** x", "😀 né 👍 x", vec![bold(3, 5)]),
        (
            "see [the _page_](https://example.com/a) now",
            "see the page now",
            vec![
                italic(8, 4),
                tl::types::MessageEntityTextUrl {
                    offset: 4,
                    length: 8,
                    url: "https://example.com/a".to_owned(),
                }
                .into(),
            ],
        ),
        (
            "```rust\nfn main() {}\n```",
            "fn main() {}",
            vec![
                tl::types::MessageEntityPre {
                    offset: 0,
                    length: 12,
                    language: "rust".to_owned(),
                }
                .into(),
            ],
        ),
        (
            "**bold _both_ bold**",
            "bold both bold",
            vec![italic(5, 4), bold(0, 14)],
        ),
    ] {
        assert_eq!(
            from_markdown(markdown),
            (plain.to_owned(), entities.clone()),
            "{markdown}"
        );
        assert_eq!(to_markdown(plain, &entities), markdown);
    }
}

#[test]
fn what_is_no_mark_stays() {
    for text in [
        "2 ** 3 and 2 * 3",
        "snake_case_name and _",
        "**open",
        "[words](not an address)",
        "[a](javascript:alert)",
        "``` ```",
        "~~ x ~~",
        "****",
        "[",
        "\\",
        "`",
        "",
    ] {
        assert_eq!(from_markdown(text), (text.to_owned(), vec![]), "{text}");
    }
}

#[test]
fn a_backslash_protects() {
    assert_eq!(from_markdown(r"\*\*not bold\*\*"), ("**not bold**".to_owned(), vec![]));
    assert_eq!(from_markdown(r"_a\_b_"), ("a_b".to_owned(), vec![italic(0, 3)]));
    assert_eq!(from_markdown(r"C:\new"), (r"C:\new".to_owned(), vec![]));
}

#[test]
fn entities_outside_the_text_or_across_each_other_do_no_harm() {
    assert_eq!(to_markdown("ab", &[bold(1, 50)]), "a**b**");
    assert_eq!(to_markdown("ab", &[bold(-5, 3), bold(7, 2), bold(0, 0)]), "ab");
    assert_eq!(to_markdown("abcd", &[bold(0, 3), italic(1, 3)]), "**a_bc_**d");
    assert_eq!(to_markdown("", &[bold(0, 1)]), "");
    // An offset in the middle of a surrogate pair.
    assert_eq!(to_markdown("😀x", &[bold(1, 2)]), "😀**x**");
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_without_harm(text in "[a*_~`\\[\\]()\\\\ \n😀é]{0,40}") {
        let (plain, entities) = from_markdown(&text);
        let units = i32::try_from(plain.encode_utf16().count()).expect("short");
        for entity in &entities {
            let (start, end, ..) = marks(entity).expect("a mark");
            proptest::prop_assert!(0 <= start && start < end && end <= units);
        }
        let _ = to_markdown(&plain, &entities);
    }
}
