//! Every hash is that of `sha2`, whatever the lengths, the pieces and the partner.

use sha2::{Digest as _, Sha256};
use zeroauth_audit_sha256_pair::{Buffer, Message};

/// Bytes that differ everywhere, from a small generator: the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

fn message<'a>(bytes: &[u8], buffer: &'a mut Buffer) -> Message<'a> {
    let mut message = Message::new(buffer);
    message.put(bytes);
    message
}

fn expected(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[test]
fn a_message_of_any_length_has_its_hash() {
    let bytes = Random(1).bytes(1 << 20);
    for length in (0..2300).chain([4095, 4096, 4097, 1 << 20]) {
        assert_eq!(
            message(&bytes[..length], &mut Buffer::new()).finish(),
            expected(&bytes[..length]),
            "{length} bytes"
        );
    }
}

#[test]
fn two_messages_of_any_lengths_have_their_hashes_and_the_second_may_go_on() {
    let mut random = Random(2);
    let (one, two, end) = (random.bytes(1200), random.bytes(1200), random.bytes(200));
    let check = |first: usize, second: usize, more: usize| {
        let (mut room, mut other_room) = (Buffer::new(), Buffer::new());
        let (mut a, mut b) = (message(&one[..first], &mut room), message(&two[..second], &mut other_room));
        assert_eq!(a.finish_beside(&mut b), expected(&one[..first]), "{first} beside {second}");
        b.put(&end[..more]);
        let whole = [&two[..second], &end[..more]].concat();
        assert_eq!(b.finish(), expected(&whole), "{second} beside {first}, then {more}");
    };
    for length in 0..=1024 {
        check(length, length, 32);
        check(length, 300, 32);
        check(300, length, 32);
    }
    for _ in 0..20_000 {
        check(random.below(1200), random.below(1200), random.below(200));
    }
}

#[test]
fn pieces_of_any_size_make_one_message() {
    let mut random = Random(3);
    for round in 0..3000 {
        let mut buffer = Buffer::new();
        let (mut message, mut whole) = (Message::new(&mut buffer), Vec::new());
        let longest = [2, 20, 70, 700, 3000][round % 5];
        let mut writer = message.writer();
        for _ in 0..random.below(40) {
            let length = random.below(longest);
            let piece = random.bytes(length);
            if random.below(10) == 0 {
                writer.finish();
                writer = message.writer();
            }
            if piece.len().is_multiple_of(2) {
                writer.put(&piece);
                whole.extend(&piece);
            } else {
                writer.put_headed([1, 2, 3, 4, 5], &piece);
                whole.extend([1, 2, 3, 4, 5].iter().chain(&piece));
            }
        }
        writer.finish();
        assert_eq!(message.finish(), expected(&whole), "{} bytes", whole.len());
    }
}
