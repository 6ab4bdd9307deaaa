//! Types as text, for people and for fingerprints.
//!
//! `stringify!` would put spaces between all tokens, because tokens that went through a macro have
//! lost what was between them.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Input: the tokens of `Vec<(u8,)>`. Output: `Vec<(u8,)>`.
pub(crate) fn of(tokens: TokenStream) -> String {
    let mut text = Text::default();
    text.stream(tokens);
    text.out
}

#[derive(Default)]
struct Text {
    out: String,
}

impl Text {
    fn stream(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::Bracket => ("[", "]"),
                        Delimiter::Brace => ("{", "}"),
                        Delimiter::None => ("", ""),
                    };
                    self.out.push_str(open);
                    self.stream(group.stream());
                    // A comma may end the list, as it must in `(u8,)`.
                    self.out.truncate(self.out.trim_end().len());
                    self.out.push_str(close);
                }
                TokenTree::Ident(ident) => self.word(&ident.to_string()),
                TokenTree::Literal(literal) => self.word(&literal.to_string()),
                TokenTree::Punct(punct) => self.punct(punct.as_char()),
            }
        }
    }

    /// A word stands apart from a word before it, and from the end of `for<'a>`.
    fn word(&mut self, word: &str) {
        let ends_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '>' | '"');
        if self.out.ends_with(ends_word) {
            self.out.push(' ');
        }
        self.out.push_str(word);
    }

    fn punct(&mut self, punct: char) {
        match punct {
            ',' | ';' => {
                self.out.push(punct);
                self.out.push(' ');
            }
            '+' | '=' => {
                self.out.push(' ');
                self.out.push(punct);
                self.out.push(' ');
            }
            '>' if self.out.ends_with('-') => {
                self.out.truncate(self.out.len() - 1);
                self.out.push_str(" -> ");
            }
            _ => self.out.push(punct),
        }
    }
}
