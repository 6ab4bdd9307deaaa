//! The codec against serde's data model, forged input, and its limits.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::{self, Debug, Display},
    num::NonZeroU8,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _, IgnoredAny, SeqAccess, Visitor},
    ser::{Error as _, SerializeSeq as _},
};

use super::{
    limits::{MAX_DEPTH, MAX_EMPTY_ELEMENTS},
    *,
};

fn encoded<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode(value, &mut out).unwrap();
    out
}

fn encode_error<T: Serialize + ?Sized>(value: &T) -> String {
    let mut out = b"before".to_vec();
    let error = encode(value, &mut out).unwrap_err();
    assert_eq!(out, b"before", "a failed encode must leave `out` alone");
    error.to_string()
}

fn decode_error<T: DeserializeOwned>(bytes: &[u8]) -> String {
    match decode::<T>(bytes) {
        Ok(_) => panic!("{bytes:?} decoded as {}", std::any::type_name::<T>()),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "{text:?} doesn't contain {part:?}");
}

/// The bytes are postcard's, they decode to the same value, and no part of them does.
#[track_caller]
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let bytes = encoded(&value);
    assert_eq!(bytes, postcard::to_allocvec(&value).unwrap());
    assert_eq!(decode::<T>(&bytes).unwrap(), value);
    for len in 0..bytes.len() {
        assert_contains(&decode_error::<T>(&bytes[..len]), "the bytes end too early");
    }
    let mut longer = bytes;
    longer.push(0);
    assert_contains(&decode_error::<T>(&longer), "1 bytes are left over");
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Default, Clone)]
struct Point {
    x: i32,
    y: Option<f64>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Unit;

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Newtype(String);

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Pair(u8, u16);

#[derive(Serialize, Deserialize, PartialEq, Debug)]
enum Shape {
    Empty,
    Circle(f32),
    Line(Point, Point),
    Polygon { points: Vec<Point>, closed: bool },
}

#[test]
fn primitives() {
    round_trip(true);
    round_trip((i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN));
    round_trip((i8::MAX, i16::MAX, i32::MAX, i64::MAX, i128::MAX, isize::MAX));
    round_trip((u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX));
    round_trip((0u8, 0i128, 0u128, -1i64, 1u64));
    round_trip((f32::MIN_POSITIVE, -0.0f64, f64::INFINITY));
    round_trip(['a', 'ß', '€', '🦀', '\0', char::MAX]);
    round_trip("zażółć".to_owned());
    assert_eq!(decode::<f64>(&encoded(&f64::NAN)).unwrap().to_bits(), f64::NAN.to_bits());
}

#[test]
fn compounds() {
    round_trip(Some(Some(7u8)));
    round_trip(Some(None::<u8>));
    round_trip(vec![Ok(1u8), Err("no".to_owned())]);
    round_trip(((), 1u8, [2u16; 3], (4u32,)));
    round_trip(BTreeMap::from([("a".to_owned(), vec![1u64]), ("b".to_owned(), vec![])]));
    round_trip(HashMap::from([(1u8, Point { x: -1, y: Some(0.5) })]));
    round_trip(HashSet::from(["one".to_owned()]));
    round_trip(Newtype("n".into()));
    round_trip(Pair(1, 2));
    round_trip(std::time::Duration::new(1, 2));
    round_trip(std::path::PathBuf::from("/a/b"));
    round_trip("127.0.0.1".parse::<std::net::IpAddr>().unwrap());
}

#[test]
fn enums_of_all_kinds_of_variants() {
    let point = Point { x: 3, y: None };
    round_trip(vec![
        Shape::Empty,
        Shape::Circle(1.5),
        Shape::Line(point.clone(), Point::default()),
        Shape::Polygon { points: vec![point], closed: true },
    ]);
    assert_contains(&decode_error::<Shape>(&[4]), "variant index 0 <= i < 4");
}

#[test]
fn what_takes_no_bytes() {
    round_trip(());
    round_trip(Unit);
    round_trip([(); 3]);
    round_trip(String::new());
    round_trip(Vec::<u64>::new());
    round_trip(HashMap::<u8, u8>::new());
    round_trip(vec![(); 1000]);
    assert_eq!(encoded(&()), []);
    assert_eq!(encoded(""), [0]);
}

#[test]
fn unsized_values() {
    assert_eq!(encoded("hi"), postcard::to_allocvec("hi").unwrap());
    assert_eq!(encoded(&[1u16, 300][..]), postcard::to_allocvec(&[1u16, 300][..]).unwrap());
}

#[test]
fn encode_appends() {
    let mut out = vec![9];
    encode(&1u8, &mut out).unwrap();
    encode("a", &mut out).unwrap();
    assert_eq!(out, [9, 1, 1, b'a']);
}

#[test]
fn bytes_by_their_own_methods() {
    #[derive(PartialEq, Debug)]
    struct Blob(Vec<u8>);
    impl Serialize for Blob {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&self.0)
        }
    }
    impl<'de> Deserialize<'de> for Blob {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct BlobVisitor;
            impl Visitor<'_> for BlobVisitor {
                type Value = Blob;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("bytes")
                }
                fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                    Ok(Blob(bytes.to_vec()))
                }
            }
            deserializer.deserialize_byte_buf(BlobVisitor)
        }
    }
    round_trip(Blob(vec![0, 255, 128]));
    round_trip(Blob(vec![]));
}

#[test]
fn sixty_four_mebibytes() {
    let value: Vec<u8> = (0..64 << 20).map(|i: u32| (i >> 3) as u8).collect();
    let bytes = encoded(&value);
    assert_eq!(bytes.len(), value.len() + 4);
    assert!(decode::<Vec<u8>>(&bytes).unwrap() == value);
}

/// An impl with something to say, both ways.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Picky(u8);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            13 => Err(S::Error::custom(format_args!("the file {} is locked", self.0))),
            n => serializer.serialize_u8(n),
        }
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            14 => Err(D::Error::custom("the licence has expired")),
            n => Ok(Self(n)),
        }
    }
}

#[test]
fn custom_messages_are_kept_and_the_type_is_named() {
    let name = std::any::type_name::<Picky>();
    assert_eq!(encode_error(&Picky(13)), format!("can't encode {name}: the file 13 is locked"));
    assert_eq!(
        decode_error::<Picky>(&[14]),
        format!("can't decode {name}: the licence has expired (at byte 1 of 1)")
    );
}

#[test]
fn custom_messages_come_through_every_compound() {
    #[derive(Serialize, Deserialize)]
    struct Wrapped(Picky);
    #[derive(Serialize, Deserialize)]
    struct Tuple(u8, Picky);
    #[derive(Serialize, Deserialize)]
    struct Named {
        picky: Picky,
    }
    #[derive(Serialize, Deserialize)]
    enum Variants {
        One(Picky),
        Two(u8, Picky),
        Three { picky: Picky },
    }

    #[track_caller]
    fn check<T: Serialize + DeserializeOwned>(make: impl Fn(Picky) -> T) {
        assert_contains(&encode_error(&make(Picky(13))), ": the file 13 is locked");
        // What can be encoded but not decoded.
        let bytes = encoded(&make(Picky(14)));
        assert_contains(&decode_error::<T>(&bytes), ": the licence has expired (at byte");
    }
    check(|p| vec![Picky(1), p]);
    check(Some);
    check(Ok::<Picky, ()>);
    check(Box::new);
    check(|p| (1u8, p));
    check(|p| HashMap::from([(1u8, p)]));
    check(|p| HashMap::from([(p, 1u8)]));
    check(|p| HashSet::from([p]));
    check(Wrapped);
    check(|p| Tuple(1, p));
    check(|picky| Named { picky });
    check(Variants::One);
    check(|p| Variants::Two(1, p));
    check(|picky| Variants::Three { picky });
    check(|p| vec![Some(HashMap::from([(1u8, Variants::Three { picky: p })]))]);
}

#[test]
fn messages_of_serde_itself_are_kept() {
    let zero = decode_error::<NonZeroU8>(&[0]);
    assert_contains(&zero, "invalid value: integer `0`, expected a nonzero u8");
    let path = decode_error::<std::ffi::CString>(&[2, 0, 65]);
    assert_contains(&path, "nul byte");
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(b"\xff"));
        assert_contains(&encode_error(path), "path contains invalid UTF-8 characters");
    }
}

#[test]
fn wrong_bytes_say_what_is_wrong() {
    assert_contains(&decode_error::<bool>(&[2]), "a bool is neither 0 nor 1 (at byte 1 of 1)");
    assert_contains(&decode_error::<u16>(&[255, 255, 255]), "out of its type's range");
    assert_contains(&decode_error::<String>(&[1, 255]), "not valid UTF-8");
    assert_contains(&decode_error::<Option<u8>>(&[2]), "neither None nor Some");
    assert_contains(&decode_error::<char>(&[5, 0, 0, 0, 0, 0]), "a char is not valid");
    let late = decode_error::<(u32, bool)>(&[200, 1, 2]);
    assert_contains(&late, "neither 0 nor 1 (at byte 3 of 3)");
}

#[test]
fn what_the_format_cannot_express_is_refused() {
    #[derive(Serialize, Deserialize, Default)]
    struct Sparse {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        note: Option<String>,
        id: u8,
    }
    assert_contains(&encode_error(&Sparse::default()), "`note` was left out");
    assert_eq!(encoded(&Sparse { note: Some("n".into()), id: 1 }), [1, 1, b'n', 1]);

    #[derive(Serialize)]
    struct Flat {
        #[serde(flatten)]
        point: Point,
    }
    assert_contains(&encode_error(&Flat { point: Point::default() }), "serde(flatten)");

    #[derive(Deserialize, Debug)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "it can't be decoded")]
    enum Untagged {
        Number(u8),
    }
    assert_contains(&decode_error::<Untagged>(&[1]), "deserialize_any");
    assert_contains(&decode_error::<IgnoredAny>(&[1]), "deserialize_ignored_any");
}

#[test]
fn display_is_formatted_once() {
    struct Counting(std::cell::Cell<u32>);
    impl Display for Counting {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.set(self.0.get() + 1);
            write!(f, "{}", "x".repeat(self.0.get() as usize))
        }
    }
    impl Serialize for Counting {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }
    assert_eq!(encoded(&Counting(0.into())), [1, b'x']);

    struct Failing;
    impl Display for Failing {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }
    impl Serialize for Failing {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }
    assert_contains(&encode_error(&Failing), "Display");
}

#[test]
fn a_panic_leaves_out_alone() {
    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("on purpose")
        }
    }
    let mut out = vec![1];
    let caught =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| encode(&(2u8, Panics), &mut out)));
    assert!(caught.is_err());
    assert_eq!(out, [1]);
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
enum List {
    End,
    More(Box<List>),
}

fn list(levels: u32) -> List {
    (0..levels).fold(List::End, |rest, _| List::More(rest.into()))
}

#[test]
fn depth_is_bounded_on_both_sides() {
    round_trip(list(MAX_DEPTH));
    assert_contains(&encode_error(&list(MAX_DEPTH + 1)), "nests deeper than 128 levels");
    // Without a limit, this overflows the stack.
    assert_contains(&decode_error::<List>(&[1; 10_000_000]), "nests deeper than 128 levels");
}

#[test]
fn every_kind_of_level_counts() {
    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Options(Option<Box<Options>>);
    #[derive(Serialize, Deserialize)]
    struct Seqs(Vec<Seqs>);
    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Maps(BTreeMap<u8, Maps>);
    #[derive(Serialize, Deserialize)]
    struct Structs {
        next: Option<Box<Structs>>,
    }
    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Tuples(Option<(Box<Tuples>, u8)>);
    #[derive(Serialize, Deserialize)]
    enum Variants {
        Tuple(u8, Box<Variants>),
        Struct { next: Box<Variants> },
        End,
    }
    // Takes no bytes at all, so nothing but the depth ends it.
    #[derive(Deserialize)]
    struct Endless(#[expect(dead_code, reason = "it has no value")] Box<Endless>);

    let too_deep = "nests deeper than 128 levels";
    assert_contains(&decode_error::<Options>(&[1; 1 << 20]), too_deep);
    assert_contains(&decode_error::<Seqs>(&[1; 1 << 20]), too_deep);
    assert_contains(&decode_error::<Maps>(&[1; 1 << 20]), too_deep);
    assert_contains(&decode_error::<Structs>(&[1; 1 << 20]), too_deep);
    assert_contains(&decode_error::<Tuples>(&[1; 1 << 20]), too_deep);
    assert_contains(&decode_error::<Variants>(&[0; 1 << 20]), too_deep);
    assert_contains(&decode_error::<Variants>(&[1; 1 << 20]), too_deep);
    assert_contains(&decode_error::<Endless>(&[]), too_deep);

    let mut options = Options(None);
    let mut seqs = Seqs(vec![]);
    let mut maps = Maps(BTreeMap::new());
    let mut structs = Structs { next: None };
    let mut tuples = Tuples(None);
    let mut tuple_variants = Variants::End;
    let mut struct_variants = Variants::End;
    for _ in 0..=MAX_DEPTH {
        options = Options(Some(options.into()));
        seqs = Seqs(vec![seqs]);
        maps = Maps(BTreeMap::from([(1, maps)]));
        structs = Structs { next: Some(structs.into()) };
        tuples = Tuples(Some((tuples.into(), 1)));
        tuple_variants = Variants::Tuple(1, tuple_variants.into());
        struct_variants = Variants::Struct { next: struct_variants.into() };
    }
    assert_contains(&encode_error(&options), too_deep);
    assert_contains(&encode_error(&seqs), too_deep);
    assert_contains(&encode_error(&maps), too_deep);
    assert_contains(&encode_error(&structs), too_deep);
    assert_contains(&encode_error(&tuples), too_deep);
    assert_contains(&encode_error(&tuple_variants), too_deep);
    assert_contains(&encode_error(&struct_variants), too_deep);
}

#[test]
fn siblings_are_not_levels() {
    let one = || Some((1u8, Newtype("a".into()), [Some(2u8)], Shape::Circle(1.0)));
    round_trip((0..300).map(|_| one()).collect::<Vec<_>>());
}

/// A visitor that records the hint it gets for a sequence and believes it.
struct Hint(Option<usize>);

impl<'de> Deserialize<'de> for Hint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HintVisitor;
        impl<'de> Visitor<'de> for HintVisitor {
            type Value = Hint;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Hint, A::Error> {
                let hint = seq.size_hint();
                while seq.next_element::<u8>()?.is_some() {}
                Ok(Hint(hint))
            }
        }
        deserializer.deserialize_seq(HintVisitor)
    }
}

#[test]
fn a_forged_length_claims_no_memory() {
    let mut forged = encoded(&(1u64 << 60));
    forged.extend([1; 100]);
    let early = "the bytes end too early";
    let few = "of 1152921504606846976 elements has only 100 bytes";
    assert_contains(&decode_error::<String>(&forged), early);
    assert_contains(&decode_error::<Vec<u64>>(&forged), few);
    assert_contains(&decode_error::<Vec<u8>>(&forged), early);
    assert_contains(&decode_error::<Vec<i8>>(&forged), few);
    assert_contains(&decode_error::<HashMap<u64, u64>>(&forged), few);
    assert_contains(&decode_error::<Vec<[u64; 32]>>(&forged), few);
    // A length that elements without bytes could make true.
    let mut possible = encoded(&(1u64 << 20));
    possible.extend([1; 100]);
    assert_contains(&decode_error::<Vec<u64>>(&possible), early);
    assert_contains(&decode_error::<Vec<[u64; 32]>>(&possible), early);

    assert_eq!(decode::<Hint>(&[3, 1, 2, 3]).unwrap().0, Some(3));
    struct Caught;
    impl<'de> Deserialize<'de> for Caught {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct CaughtVisitor;
            impl<'de> Visitor<'de> for CaughtVisitor {
                type Value = Caught;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a sequence")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Caught, A::Error> {
                    Err(A::Error::custom(format!("the hint was {:?}", seq.size_hint())))
                }
            }
            deserializer.deserialize_seq(CaughtVisitor)
        }
    }
    assert_contains(&decode_error::<Caught>(&possible), "the hint was Some(100)");
}

#[test]
fn a_forged_length_costs_no_time() {
    let forged = encoded(&(1u64 << 60));
    let too_many = "at most 1048576 elements of a value may take no bytes";
    assert_contains(&decode_error::<Vec<()>>(&forged), too_many);
    assert_contains(&decode_error::<Vec<[Unit; 2]>>(&forged), too_many);
    assert_contains(&decode_error::<HashMap<(), ()>>(&forged), too_many);
    // The limit is one for the whole value: each inner sequence alone would be within it.
    let inner = encoded(&vec![(); MAX_EMPTY_ELEMENTS / 2]);
    let nested = [vec![3], inner.repeat(3)].concat();
    assert_contains(&decode_error::<Vec<Vec<()>>>(&nested), too_many);

    assert_contains(&encode_error(&vec![(); MAX_EMPTY_ELEMENTS + 1]), too_many);
    let most = encoded(&vec![(); MAX_EMPTY_ELEMENTS]);
    assert_eq!(decode::<Vec<()>>(&most).unwrap().len(), MAX_EMPTY_ELEMENTS);
}

#[test]
fn elements_left_unread_are_an_error() {
    #[derive(Debug)]
    struct First;
    impl<'de> Deserialize<'de> for First {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct FirstVisitor;
            impl<'de> Visitor<'de> for FirstVisitor {
                type Value = First;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a sequence")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<First, A::Error> {
                    seq.next_element::<u8>().map(|_| First)
                }
            }
            deserializer.deserialize_seq(FirstVisitor)
        }
    }
    assert!(decode::<First>(&[1, 7]).is_ok());
    assert_contains(
        &decode_error::<First>(&[3, 7, 7, 7]),
        "left elements of a sequence or map unread",
    );
}

#[test]
fn elements_promised_but_not_written_are_an_error() {
    struct Liar(usize);
    impl Serialize for Liar {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(Some(self.0))?;
            seq.serialize_element(&1u8)?;
            seq.serialize_element(&2u8)?;
            seq.end()
        }
    }
    assert_eq!(encoded(&Liar(2)), [2, 1, 2]);
    assert_contains(&encode_error(&Liar(3)), "announced");
    assert_contains(&encode_error(&Liar(1)), "announced");
}

/// Knuth's MMIX generator: enough to try shapes of bytes, and the same ones each time.
pub(super) struct Lcg(pub(super) u64);

impl Lcg {
    pub(super) fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 56) as u8
    }
}

#[test]
fn random_bytes_never_panic() {
    type Mixed = (Option<String>, Vec<Shape>, HashMap<u16, Newtype>, [char; 2], i128);
    let mut random = Lcg(1);
    let mut decoded = 0;
    for round in 0..20_000 {
        let len = usize::from(random.next()) % 40;
        // Small bytes make valid tags and lengths likely, all bytes make varints and UTF-8 so.
        let mask = if round % 2 == 0 { 3 } else { 255 };
        let bytes: Vec<u8> = (0..len).map(|_| random.next() & mask).collect();
        decoded += usize::from(decode::<Mixed>(&bytes).is_ok());
        decoded += usize::from(decode::<Vec<Shape>>(&bytes).is_ok());
        decoded += usize::from(decode::<BTreeMap<String, Vec<Option<bool>>>>(&bytes).is_ok());
        // A million empty elements are slow in a debug build, so these are tried less often.
        if round % 500 < 2 {
            decoded += usize::from(decode::<Vec<Vec<()>>>(&bytes).is_ok());
        }
        decoded += usize::from(decode::<List>(&bytes).is_ok());
        decoded += usize::from(decode::<(NonZeroU8, Result<u128, f32>)>(&bytes).is_ok());
    }
    assert!(decoded > 0, "no bytes were valid, so little was tried");
}
