//! Inputs in all their forms, and the frames that they make.

use std::sync::Arc;

use super::*;

#[test]
fn heads_come_back() {
    let head = TaskHead {
        callee: *b"abcdefghijklmnopq",
        timed: true,
        typed: true,
        epoch: 0x0102_0304,
        bound: u64::MAX - 5,
        count: 77,
        attempt: 3,
    };
    let mut bytes = head.to_bytes().to_vec();
    bytes.push(9);
    assert_eq!(TaskHead::split(&bytes), Some((head, &[9][..])));
    assert_eq!(TaskHead::split(&bytes[..39]), None);
}

#[test]
fn items_come_back_and_a_failed_one_leaves_nothing() {
    let mut inputs = Inputs::default();
    for item in [&b"one"[..], b"", b"three"] {
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(item);
            Ok::<(), ()>(())
        };
        inputs.push(write).unwrap();
        assert!(
            inputs
                .push(|out| {
                    out.push(1);
                    Err(())
                })
                .is_err()
        );
    }
    assert_eq!(inputs.len(), 3);
    let span = inputs.span(1..3);
    let span = span.bytes();
    let mut items = Items::new(&span, None);
    assert_eq!(items.next(), Some(&b""[..]));
    assert_eq!(items.next(), Some(&b"three"[..]));
    assert_eq!(items.next(), None);
}

#[test]
fn a_single_item_is_as_one_of_many() {
    for length in [0, 1, FEW - 8, FEW - 7, FEW, FEW + 1, 1000] {
        let item = vec![7; length];
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(&item);
            Ok::<_, ()>(None)
        };
        let mut many = Inputs::default();
        many.push_apart(write).unwrap();
        let one = Inputs::one(None, write).unwrap();
        assert_eq!((one.len(), one.bytes()), (1, many.bytes()));
        assert_eq!(one.span(0..1).bytes(), many.span(0..1).bytes());
        assert_eq!(one.length(0..1), one.bytes());
        assert_eq!(one.parts().collect::<Vec<_>>().concat(), *many.span(0..1).bytes());
        let fixed = Inputs::one(Some(length), write).unwrap();
        assert_eq!((fixed.len(), &fixed.span(0..1).bytes()[..]), (1, &item[..]));
        // One whose end is apart.
        let long = || Some(Arc::new(item.clone()) as LongBytes);
        many.push_apart(|_| Ok::<_, ()>(long())).unwrap();
        let apart = Inputs::one(None, |_| Ok::<_, ()>(long())).unwrap();
        assert_eq!((apart.len(), apart.length(0..1)), (1, many.length(1..2)));
        assert_eq!(apart.span(0..1).bytes(), many.span(1..2).bytes());
        assert_eq!(apart.tail(0).map(|tail| (**tail).as_ref().to_vec()), Some(item));
    }
    assert_eq!(Inputs::one(None, |_| Err(3)).unwrap_err(), 3);
}

#[test]
fn items_with_long_ends_are_like_others() {
    let (mut inputs, mut plain) = (Inputs::default(), Inputs::default());
    let items = [(&b"a"[..], None), (b"bc", Some(vec![5; 4])), (b"", Some(vec![7; 9]))];
    for (head, tail) in items.iter().chain(&items) {
        let long = tail.clone().map(|tail| Arc::new(tail) as LongBytes);
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(head);
            Ok::<_, ()>(long)
        };
        inputs.push_apart(write).unwrap();
        let write_all = |out: &mut Vec<u8>| {
            out.extend_from_slice(&[head, tail.as_deref().unwrap_or_default()].concat());
            Ok::<_, ()>(())
        };
        plain.push(write_all).unwrap();
    }
    assert_eq!((inputs.bytes(), inputs.len()), (plain.bytes(), plain.len()));
    assert!(inputs.starts().eq(plain.starts()));
    assert!(inputs.parts().flatten().eq(plain.parts().flatten()));
    for start in 0..=6 {
        for end in start..=6 {
            assert_eq!(inputs.length(start..end), plain.length(start..end));
        }
    }
    // An end that was let go is still counted: the others stay where they are.
    assert!(inputs.let_go(1).is_some() && inputs.let_go(1).is_none());
    assert!(inputs.tail(1).is_none() && inputs.tail(2).is_some());
    assert_eq!(inputs.length(0..6), plain.length(0..6));
}

#[test]
fn a_wrong_length_ends_the_items() {
    assert_eq!(Items::new(&[255; 12], None).next(), None);
    assert_eq!(Items::new(&[5, 0, 0, 0, 0, 0, 0, 0, 1], None).next(), None);
}
