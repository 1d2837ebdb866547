//! Which objects of a list somebody wants to see: those that a word is found in, some at a time.
//!
//! Owns the cursor. It names the next object and remembers its place: objects that are made or removed meanwhile move
//! nothing that is still to come. No IO, no clock.

use std::fmt;
use std::str::FromStr;

/// Objects of a page.
pub const MAX_LIMIT: usize = 1000;

/// What is wanted of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How many at most; `None`: all.
    pub limit: Option<usize>,
    /// From where on; `None`: from the first.
    pub cursor: Option<Cursor>,
    /// A part of a name, an id or a user's name, in any case.
    pub q: Option<String>,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Which place it had among all.
    place: usize,
    is_declared: bool,
    handle: String,
}

/// `<place>-<f or a>-<the handle's bytes>`, in hex digits: of the file, or of the API.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}-", self.place, if self.is_declared { 'f' } else { 'a' })?;
        self.handle.bytes().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (place, rest) = text.split_once('-').ok_or(())?;
        let (origin, handle) = rest.split_once('-').ok_or(())?;
        let is_declared = match origin {
            "f" => true,
            "a" => false,
            _ => return Err(()),
        };
        let handle = handle.as_bytes().chunks(2).map(byte).collect::<Option<Vec<u8>>>().ok_or(())?;
        let handle = String::from_utf8(handle).map_err(|_| ())?;
        let read = Self { place: usize::from_str_radix(place, 16).map_err(|_| ())?, is_declared, handle };
        // One spelling each.
        if read.to_string() == text { Ok(read) } else { Err(()) }
    }
}

fn byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Something in a list.
pub(crate) trait Listed {
    /// Whether the file declares it.
    fn is_declared(&self) -> bool;

    /// What it is found by.
    fn handle(&self) -> String;

    /// Whether `lowercase` is a part of what it is searched by.
    fn mentions(&self, lowercase: &str) -> bool;
}

/// Some objects of a list.
#[derive(Debug)]
pub(crate) struct Picked<T> {
    pub(crate) objects: Vec<T>,
    pub(crate) next: Option<Cursor>,
    /// How many there are on all pages.
    pub(crate) total: usize,
}

/// The objects of `all` that are wanted.
pub(crate) fn pick<T: Listed>(all: Vec<T>, wanted: &Wanted) -> Picked<T> {
    let q = wanted.q.as_deref().map(str::to_lowercase);
    let begin = wanted.cursor.as_ref().map_or(0, |cursor| cursor.find(&all));
    let limit = wanted.limit.unwrap_or(usize::MAX);
    let mut picked = Picked { objects: Vec::new(), next: None, total: 0 };
    for (place, object) in all.into_iter().enumerate() {
        if q.as_deref().is_some_and(|q| !object.mentions(q)) {
            continue;
        }
        picked.total += 1;
        if place < begin {
            continue;
        }
        if picked.objects.len() < limit {
            picked.objects.push(object);
        } else if picked.next.is_none() {
            picked.next = Some(Cursor { place, is_declared: object.is_declared(), handle: object.handle() });
        }
    }
    picked
}

impl Cursor {
    /// Its place now; where it was, if it is gone.
    fn find<T: Listed>(&self, all: &[T]) -> usize {
        let is_it = |object: &T| object.is_declared() == self.is_declared && object.handle() == self.handle;
        match all.get(self.place) {
            Some(object) if is_it(object) => self.place,
            _ => all.iter().position(is_it).unwrap_or(self.place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Thing(&'static str, bool);

    impl Listed for Thing {
        fn is_declared(&self) -> bool {
            self.1
        }

        fn handle(&self) -> String {
            self.0.to_owned()
        }

        fn mentions(&self, lowercase: &str) -> bool {
            self.0.to_lowercase().contains(lowercase)
        }
    }

    fn made(names: &[&'static str]) -> Vec<Thing> {
        names.iter().map(|name| Thing(name, false)).collect()
    }

    fn names(picked: &Picked<Thing>) -> Vec<&'static str> {
        picked.objects.iter().map(|thing| thing.0).collect()
    }

    fn wanted(limit: usize, cursor: Option<Cursor>, q: Option<&str>) -> Wanted {
        Wanted { limit: Some(limit), cursor, q: q.map(str::to_owned) }
    }

    #[test]
    fn pages_have_every_object_once_in_their_order() {
        let all = made(&["a", "b", "c", "d", "e"]);
        for limit in 1..=6 {
            let (mut seen, mut cursor, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = pick(all.clone(), &wanted(limit, cursor, None));
                assert_eq!(page.total, 5);
                seen.extend(names(&page));
                pages += 1;
                cursor = page.next.map(|next| next.to_string().parse().expect("its own words"));
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!((seen, pages), (vec!["a", "b", "c", "d", "e"], 5_usize.div_ceil(limit)), "{limit} a page");
        }
        assert_eq!(names(&pick(all, &Wanted::default())).len(), 5);
    }

    #[test]
    fn what_is_made_or_removed_meanwhile_moves_nothing() {
        let page = pick(made(&["a", "b", "c", "d"]), &wanted(2, None, None));
        assert_eq!(names(&page), ["a", "b"]);
        for (now, next) in [
            (&["b", "c", "d"][..], &["c", "d"][..]),
            (&["c", "d", "e"], &["c", "d"]),
            (&["x", "a", "b", "c", "d"], &["c", "d"]),
            (&["a", "b", "d"], &["d"]),
            (&["d"], &[]),
            (&[], &[]),
        ] {
            assert_eq!(names(&pick(made(now), &wanted(2, page.next.clone(), None))), next, "{now:?}");
        }
    }

    #[test]
    fn the_files_and_the_apis_of_one_name_are_told_apart() {
        let all = vec![Thing("a", true), Thing("b", true), Thing("b", false), Thing("c", false)];
        let first = pick(all.clone(), &wanted(2, None, None));
        let next = first.next.expect("there are more");
        assert_eq!((next.is_declared, &*next.handle), (false, "b"));
        let mut fewer = all;
        fewer.remove(0);
        assert_eq!(names(&pick(fewer, &wanted(9, Some(next), None))), ["b", "c"]);
    }

    #[test]
    fn a_search_is_paged_like_a_list() {
        let all = made(&["Alice", "bob", "malice", "ALICE-2", "carol"]);
        let first = pick(all.clone(), &wanted(2, None, Some("aLiCe")));
        assert_eq!((names(&first), first.total), (vec!["Alice", "malice"], 3));
        let last = pick(all.clone(), &wanted(2, first.next, Some("alice")));
        assert_eq!((names(&last), last.total, last.next), (vec!["ALICE-2"], 3, None));
        let none = pick(all, &wanted(2, None, Some("z")));
        assert_eq!((none.objects.len(), none.total, none.next), (0, 0, None));
    }

    #[test]
    fn a_cursor_is_one_of_ours_or_none() {
        let cursor = Cursor { place: 300, is_declared: true, handle: "Ä b".to_owned() };
        assert_eq!(cursor.to_string(), "12c-f-c3842062");
        assert_eq!("12c-f-c3842062".parse(), Ok(cursor));
        for text in [
            "",
            "12c",
            "12c-f",
            "12c-x-61",
            "12c-f-6",
            "12c-f-6g",
            "12c-f-ff",
            "012c-f-61",
            "12C-f-61",
            "-f-61",
            "+1-f-61",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(()), "{text}");
        }
    }
}
