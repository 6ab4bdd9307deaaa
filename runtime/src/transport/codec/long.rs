//! Long bytes that are a value's own: taken out of it, to be sent from where they are.

use std::any::Any;
use std::sync::Arc;

use super::typed::for_numbers;
use crate::transport::LongBytes;
use crate::transport::frame::LONG;
use crate::transport::spare::Reused;

/// Numbers whose bytes are sent from where they are.
struct Numbers<N>(Vec<N>);

impl<N: bytemuck::NoUninit> AsRef<[u8]> for Numbers<N> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Takes a long text or vector of numbers out of `value`, an `Option<T>`, with how many elements it has.
#[inline(always)]
pub(super) fn take_long(value: &mut dyn Any) -> Option<(usize, LongBytes)> {
    if let Some(value) = value.downcast_mut::<Option<String>>() {
        let text = value.take_if(|text| text.len() >= LONG)?;
        return Some((text.len(), Arc::new(Reused(text.into_bytes()))));
    }
    if let Some(value) = value.downcast_mut::<Option<Vec<u8>>>() {
        let bytes = value.take_if(|bytes| bytes.len() >= LONG)?;
        return Some((bytes.len(), Arc::new(Reused(bytes))));
    }
    macro_rules! take {
        ($($Number:ty)*) => {$(
            if let Some(value) = value.downcast_mut::<Option<Vec<$Number>>>() {
                let numbers = value.take_if(|numbers| size_of_val(&numbers[..]) >= LONG)?;
                return Some((numbers.len(), Arc::new(Numbers(numbers))));
            }
        )*};
    }
    for_numbers!(take);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::codec::typed;

    /// What is encoded apart is what is encoded as a whole, and is decoded in the memory that it is in.
    #[test]
    fn long_ends_are_handed_out_and_taken_in() {
        for length in [0, 1, LONG - 1, LONG, LONG + 1, 300_000] {
            let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut whole = Vec::new();
            typed::encode(&bytes, &mut whole).unwrap();
            let (mut head, at) = (Vec::new(), bytes.as_ptr());
            let tail = typed::encode_apart(bytes.clone(), &mut head).unwrap();
            assert_eq!(tail.is_some(), length >= LONG);
            let tail = tail.map_or_else(Vec::new, |tail| (*tail).as_ref().to_vec());
            assert_eq!([&head[..], &tail].concat(), whole);
            if length >= LONG {
                let at_tail = tail.as_ptr();
                let decoded: Vec<u8> = typed::decode_apart(&head, tail).unwrap();
                assert!(decoded == bytes && decoded.as_ptr() == at_tail);
                let mut head = Vec::new();
                let tail = typed::encode_apart(bytes, &mut head).unwrap().unwrap();
                assert_eq!((*tail).as_ref().as_ptr(), at);
            }
        }
        let (text, floats) = ("€".repeat(LONG), vec![1.5_f64; LONG]);
        let mut head = Vec::new();
        let tail = typed::encode_apart(text.clone(), &mut head).unwrap().unwrap();
        assert!(typed::decode_apart::<String>(&head, (*tail).as_ref().to_vec()).unwrap() == text);
        head.clear();
        let tail = typed::encode_apart(floats.clone(), &mut head).unwrap().unwrap();
        let tail = (*tail).as_ref().to_vec();
        assert!(typed::decode_apart::<Vec<f64>>(&head, tail).unwrap() == floats);
    }

    #[test]
    fn a_tail_that_does_not_fit_is_an_error() {
        let mut head = Vec::new();
        let tail = typed::encode_apart(vec![1_u8; LONG], &mut head).unwrap().unwrap();
        let tail = (*tail).as_ref().to_vec();
        let decode = |head: &[u8], tail: &[u8]| {
            let tail = tail.to_vec();
            typed::decode_apart::<Vec<u8>>(head, tail).map_err(|error| error.to_string())
        };
        assert!(decode(&head, &tail).is_ok());
        for tail in [&tail[1..], &[], &[&tail[..], &[0]].concat()] {
            assert!(decode(&head, tail).is_err());
        }
        assert!(decode(&[], &tail).is_err());
        assert!(decode(&[&head[..], &[0]].concat(), &tail).is_err());
        // A tail that isn't text, and one that is of no use.
        assert!(typed::decode_apart::<String>(&head, vec![0xff; LONG]).is_err());
        assert!(typed::decode_apart::<Vec<u64>>(&head, tail.clone()).is_err());
        assert!(typed::decode_apart::<u64>(&[0; 8], tail).is_err());
    }
}
