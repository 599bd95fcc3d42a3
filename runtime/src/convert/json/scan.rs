//! A pull scanner over JSON text, as lenient as Jackson is set in Connect: leading zeros are allowed, what follows the
//! first value is ignored. It builds no tree and cannot panic; nesting is limited.

use bytes::Bytes;
use bytestring::ByteString;

/// Objects and arrays nested deeper than this are refused.
pub(super) const MAX_DEPTH: usize = 200;

/// Why text is no JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {at}")]
pub(super) struct SyntaxError {
    reason: &'static str,
    at: usize,
}

type Result<T> = std::result::Result<T, SyntaxError>;

/// The kind of JSON value that starts at a place, as Jackson names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

impl Node {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Object => "OBJECT",
            Self::Array => "ARRAY",
            Self::String => "STRING",
            Self::Number => "NUMBER",
            Self::Boolean => "BOOLEAN",
            Self::Null => "NULL",
        }
    }
}

/// A scanner at a place in a text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    source: &'a Bytes,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(source: &'a Bytes, at: usize) -> Self {
        Self { source, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The same scanner at an earlier place.
    pub(super) fn back_to(&mut self, at: usize) -> &mut Self {
        self.at = at;
        self
    }

    pub(super) fn fail<T>(&self, reason: &'static str) -> Result<T> {
        Err(SyntaxError { reason, at: self.at })
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.source.get(self.at).copied()
    }

    #[inline]
    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
    }

    /// Passes these bytes if they come next, exactly.
    #[inline]
    pub(super) fn eat_exact(&mut self, bytes: &[u8]) -> bool {
        let found = self.source.get(self.at..).is_some_and(|rest| rest.starts_with(bytes));
        if found {
            self.at += bytes.len();
        }
        found
    }

    /// Passes a punctuation mark if it comes next, after blanks.
    #[inline]
    pub(super) fn eat(&mut self, mark: u8) -> bool {
        self.blanks();
        let found = self.byte() == Some(mark);
        if found {
            self.at += 1;
        }
        found
    }

    pub(super) fn expect(&mut self, mark: u8, reason: &'static str) -> Result<()> {
        if self.eat(mark) { Ok(()) } else { self.fail(reason) }
    }

    /// What kind of value comes next.
    #[inline]
    pub(super) fn peek(&mut self) -> Result<Node> {
        self.blanks();
        match self.byte() {
            Some(b'"') => Ok(Node::String),
            Some(b'0'..=b'9' | b'-') => Ok(Node::Number),
            Some(b'{') => Ok(Node::Object),
            Some(b'[') => Ok(Node::Array),
            Some(b't' | b'f') => Ok(Node::Boolean),
            Some(b'n') => Ok(Node::Null),
            Some(_) => self.fail("unexpected character"),
            None => self.fail("unexpected end of input"),
        }
    }

    pub(super) fn null(&mut self) -> Result<()> {
        self.blanks();
        if self.eat_exact(b"null") { Ok(()) } else { self.fail("unrecognized token") }
    }

    pub(super) fn boolean(&mut self) -> Result<bool> {
        self.blanks();
        if self.eat_exact(b"true") {
            Ok(true)
        } else if self.eat_exact(b"false") {
            Ok(false)
        } else {
            self.fail("unrecognized token")
        }
    }

    /// The text of a number, and whether it is an integer.
    #[inline]
    pub(super) fn number(&mut self) -> Result<(&'a str, bool)> {
        self.blanks();
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        self.digits()?;
        let mut integer = true;
        if self.byte() == Some(b'.') {
            self.at += 1;
            integer = false;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            integer = false;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.source.get(start..self.at).and_then(|bytes| std::str::from_utf8(bytes).ok());
        Ok((text.unwrap_or_default(), integer))
    }

    #[inline]
    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { self.fail("digit expected") }
    }

    /// Passes text and says where it stood, and whether it has escapes.
    #[inline]
    fn quoted(&mut self) -> Result<(usize, usize, bool)> {
        self.expect(b'"', "text expected")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(control) if control < 0x20 => return self.fail("control character in text"),
                Some(_) => self.at += 1,
                None => return self.fail("unexpected end of text"),
            }
        }
        self.at += 1;
        Ok((start, self.at - 1, escaped))
    }

    /// Reads text; without escapes it shares the input's buffer.
    #[inline]
    pub(super) fn text(&mut self) -> Result<ByteString> {
        let (start, end, escaped) = self.quoted()?;
        if escaped {
            return self.unescape(start, end).map(ByteString::from);
        }
        match ByteString::try_from(self.source.slice(start..end)) {
            Ok(text) => Ok(text),
            Err(_) => self.fail("text is not UTF-8"),
        }
    }

    #[cold]
    fn unescape(&self, start: usize, end: usize) -> Result<String> {
        let Ok(raw) = std::str::from_utf8(&self.source[start..end]) else { return self.fail("text is not UTF-8") };
        let mut out = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(index) = rest.find('\\') {
            out.push_str(&rest[..index]);
            let Some(mark) = rest.as_bytes().get(index + 1) else { return self.fail("unfinished escape") };
            rest = rest.get(index + 2..).unwrap_or_default();
            match mark {
                b'"' | b'\\' | b'/' => out.push(char::from(*mark)),
                b'n' => out.push('\n'),
                b'r' => out.push('\r'),
                b't' => out.push('\t'),
                b'b' => out.push('\u{8}'),
                b'f' => out.push('\u{c}'),
                b'u' => {
                    let Some(unit) = hex(rest) else { return self.fail("four hexadecimal digits expected") };
                    rest = &rest[4..];
                    let low = rest.strip_prefix("\\u").and_then(hex).filter(|l| (0xdc00..0xe000).contains(l));
                    let code = match (unit, low) {
                        (0xd800..0xdc00, Some(low)) => {
                            rest = &rest[6..];
                            0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                        }
                        _ => unit,
                    };
                    out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                _ => return self.fail("unknown escape"),
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Passes one value of any kind and gives its bytes.
    pub(super) fn skip(&mut self) -> Result<Bytes> {
        self.blanks();
        let start = self.at;
        self.skip_value(0)?;
        Ok(self.source.slice(start..self.at))
    }

    fn skip_value(&mut self, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        match self.peek()? {
            Node::String => self.quoted().map(|_| ()),
            Node::Number => self.number().map(|_| ()),
            Node::Boolean => self.boolean().map(|_| ()),
            Node::Null => self.null(),
            Node::Array => self.each(|scanner| scanner.skip_value(depth + 1)),
            Node::Object => self.members(|scanner, _| scanner.skip_value(depth + 1)),
        }
    }

    /// Visits each element of the array that comes next; the visitor passes it.
    pub(super) fn each<E: From<SyntaxError>>(
        &mut self,
        mut visit: impl FnMut(&mut Self) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.expect(b'[', "array expected")?;
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            visit(self)?;
            if self.eat(b']') {
                return Ok(());
            }
            self.expect(b',', "comma or bracket expected")?;
        }
    }

    /// Visits each member of the object that comes next, after its colon; the visitor passes the value.
    pub(super) fn members<E: From<SyntaxError>>(
        &mut self,
        mut visit: impl FnMut(&mut Self, ByteString) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.expect(b'{', "object expected")?;
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let key = self.text()?;
            self.expect(b':', "colon expected")?;
            visit(self, key)?;
            if self.eat(b'}') {
                return Ok(());
            }
            self.expect(b',', "comma or brace expected")?;
        }
    }
}

fn hex(text: &str) -> Option<u32> {
    let digits = text.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}
