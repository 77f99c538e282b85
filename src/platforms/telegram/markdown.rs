//! Between Telegram's entities and the Markdown that the hub's texts are written in.
//!
//! The subset: `**bold**`, `_italic_`, `~~struck~~`, `` `code` ``, fenced code blocks, `[words](address)`, and a
//! backslash before a mark that is meant as it stands. A mark counts only where it hugs its words: `2 * 3` and
//! `snake_case` stay as they are. Entities count in UTF-16 units (<https://core.telegram.org/api/entities>).

use grammers_tl_types::{self as tl, enums};

/// A mark that stands on both sides of its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Bold,
    Italic,
    Strike,
    Code,
}

impl Style {
    const ALL: [Self; 4] = [Self::Bold, Self::Strike, Self::Italic, Self::Code];

    fn mark(self) -> &'static str {
        match self {
            Self::Bold => "**",
            Self::Italic => "_",
            Self::Strike => "~~",
            Self::Code => "`",
        }
    }

    fn entity(self, offset: i32, length: i32) -> enums::MessageEntity {
        match self {
            Self::Bold => tl::types::MessageEntityBold { offset, length }.into(),
            Self::Italic => tl::types::MessageEntityItalic { offset, length }.into(),
            Self::Strike => tl::types::MessageEntityStrike { offset, length }.into(),
            Self::Code => tl::types::MessageEntityCode { offset, length }.into(),
        }
    }
}

const FENCE: &str = "```";
/// Characters that a backslash can protect.
const PROTECTED: &str = "*_~`[]()\\";

/// The marks of an entity and where they stand; none for what the text shows by itself, such as a link or a mention.
fn marks(entity: &enums::MessageEntity) -> Option<(i32, i32, String, String)> {
    let both = |mark: &str| (mark.to_owned(), mark.to_owned());
    let (offset, length, (before, after)) = match entity {
        enums::MessageEntity::Bold(entity) => (entity.offset, entity.length, both("**")),
        enums::MessageEntity::Italic(entity) => (entity.offset, entity.length, both("_")),
        enums::MessageEntity::Strike(entity) => (entity.offset, entity.length, both("~~")),
        enums::MessageEntity::Code(entity) => (entity.offset, entity.length, both("`")),
        enums::MessageEntity::Pre(entity) => {
            let fence = (format!("{FENCE}{}\n", entity.language), format!("\n{FENCE}"));
            (entity.offset, entity.length, fence)
        }
        enums::MessageEntity::TextUrl(entity) => {
            let address = entity.url.replace(')', "%29");
            (entity.offset, entity.length, ("[".to_owned(), format!("]({address})")))
        }
        _ => return None,
    };
    (length > 0).then_some((offset, offset.saturating_add(length), before, after))
}

/// Writes the entities into the text. What lies outside the text is left out.
pub(super) fn to_markdown(text: &str, entities: &[enums::MessageEntity]) -> String {
    let mut spans: Vec<_> = entities.iter().filter_map(marks).collect();
    if spans.is_empty() {
        return text.to_owned();
    }
    // The outer one of two that begin together is the longer one.
    spans.sort_by_key(|(start, end, ..)| (*start, -*end));
    let mut written = String::with_capacity(text.len() + spans.len() * 4);
    let mut spans = spans.into_iter().peekable();
    let mut open: Vec<(i32, String)> = Vec::new();
    let mut place = 0;
    let units = |character: char| i32::try_from(character.len_utf16()).unwrap_or(1);
    for character in text.chars() {
        close(&mut written, &mut open, place);
        while let Some((_, end, before, after)) = spans.next_if(|(start, ..)| *start <= place) {
            // Overlapping ones cannot be written: the inner one ends with the outer.
            let end = open.last().map_or(end, |(outer, _)| end.min(*outer));
            if end > place {
                written.push_str(&before);
                open.push((end, after));
            }
        }
        written.push(character);
        place += units(character);
    }
    close(&mut written, &mut open, i32::MAX);
    written
}

fn close(written: &mut String, open: &mut Vec<(i32, String)>, place: i32) {
    while let Some((_, after)) = open.pop_if(|(end, _)| *end <= place) {
        written.push_str(&after);
    }
}

/// Reads Markdown: the plain text and its entities. What does not close stays as it stands.
pub(super) fn from_markdown(markdown: &str) -> (String, Vec<enums::MessageEntity>) {
    let mut reader = Reader::default();
    reader.read(markdown, None);
    (reader.plain, reader.entities)
}

#[derive(Default)]
struct Reader {
    plain: String,
    units: i32,
    entities: Vec<enums::MessageEntity>,
}

impl Reader {
    /// Reads a part whose last character before it is `before`.
    fn read(&mut self, text: &str, before: Option<char>) {
        let mut rest = text;
        let mut before = before;
        while let Some(character) = rest.chars().next() {
            if character == '\\'
                && let Some(protected) = rest.chars().nth(1).filter(|next| PROTECTED.contains(*next))
            {
                self.push(protected);
                before = Some(protected);
                rest = after(rest, 1 + protected.len_utf8());
                continue;
            }
            let taken = self
                .block(rest)
                .or_else(|| self.link(rest))
                .or_else(|| self.styled(rest, before));
            let length = match taken {
                Some(length) => length,
                None => {
                    self.push(character);
                    character.len_utf8()
                }
            };
            before = rest.get(..length).and_then(|read| read.chars().next_back());
            rest = after(rest, length);
        }
    }

    fn push(&mut self, character: char) {
        self.plain.push(character);
        self.units += i32::try_from(character.len_utf16()).unwrap_or(1);
    }

    fn push_all(&mut self, text: &str) {
        text.chars().for_each(|character| self.push(character));
    }

    /// A fenced code block at the beginning of `rest`; its length.
    fn block(&mut self, rest: &str) -> Option<usize> {
        let inner = rest.strip_prefix(FENCE)?;
        let end = inner.find(FENCE).filter(|end| *end > 0)?;
        let content = inner.get(..end)?;
        let is_language = |line: &str| {
            line.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-#_".contains(&byte))
        };
        let (language, code) = match content.split_once('\n') {
            Some((line, code)) if is_language(line) => (line, code),
            _ => ("", content),
        };
        let code = code.strip_suffix('\n').unwrap_or(code);
        if code.trim().is_empty() {
            return None;
        }
        let offset = self.units;
        self.push_all(code);
        let entity = tl::types::MessageEntityPre {
            offset,
            length: self.units - offset,
            language: language.to_owned(),
        };
        self.entities.push(entity.into());
        Some(end + 2 * FENCE.len())
    }

    /// `[words](address)` at the beginning of `rest`; its length.
    fn link(&mut self, rest: &str) -> Option<usize> {
        let inner = rest.strip_prefix('[')?;
        let middle = inner.find("](").filter(|middle| *middle > 0)?;
        let words = inner.get(..middle).filter(|words| !words.contains(['[', '\n']))?;
        let address = after(inner, middle + 2);
        let end = address.find(')')?;
        let url = address.get(..end)?;
        let is_address = ["https://", "http://", "tg://", "mailto:"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        if !is_address || url.contains(char::is_whitespace) {
            return None;
        }
        let offset = self.units;
        self.read(words, Some('['));
        let entity = tl::types::MessageEntityTextUrl {
            offset,
            length: self.units - offset,
            url: url.to_owned(),
        };
        self.entities.push(entity.into());
        Some(1 + middle + 2 + end + 1)
    }

    /// Words between two marks at the beginning of `rest`; their length, marks included.
    fn styled(&mut self, rest: &str, before: Option<char>) -> Option<usize> {
        let style = Style::ALL.into_iter().find(|style| rest.starts_with(style.mark()))?;
        let mark = style.mark();
        let is_word = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
        let inner = after(rest, mark.len());
        if is_word(before) || inner.starts_with(char::is_whitespace) || inner.starts_with(mark) {
            return None;
        }
        let end = inner.match_indices(mark).map(|(end, _)| end).find(|end| {
            let words = inner.get(..*end).unwrap_or_default();
            let next = after(inner, end + mark.len()).chars().next();
            let is_protected = words.ends_with('\\') && style != Style::Code;
            !words.is_empty() && !words.ends_with(char::is_whitespace) && !is_word(next) && !is_protected
        })?;
        let words = inner.get(..end)?;
        let offset = self.units;
        if style == Style::Code {
            self.push_all(words);
        } else {
            self.read(words, None);
        }
        self.entities.push(style.entity(offset, self.units - offset));
        Some(end + 2 * mark.len())
    }
}

/// The text after its first `length` bytes.
fn after(text: &str, length: usize) -> &str {
    text.get(length..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
