//! The buffers and the cutting of messages out of them, byte by byte.

use super::*;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::time::timeout;

fn pair() -> (Wire, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Wire::new(Box::new(ours)), theirs)
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

async fn next(wire: &mut Wire) -> BytesMut {
    loop {
        if let Some(message) = wire.next_message().unwrap() {
            return message;
        }
        wire.step(true).await.unwrap();
    }
}

#[tokio::test]
async fn bytes_may_come_one_by_one() {
    let (mut wire, mut peer) = pair();
    let sent = message(b'd', b"payload");
    for (index, byte) in sent.iter().enumerate() {
        peer.write_all(&[*byte]).await.unwrap();
        wire.step(true).await.unwrap();
        let found = wire.next_message().unwrap();
        assert_eq!(found.is_some(), index + 1 == sent.len());
        assert!(found.is_none_or(|found| found[..] == sent[..]));
    }
}

#[tokio::test]
async fn two_messages_in_one_read_are_two() {
    let (mut wire, mut peer) = pair();
    let (one, two) = (message(b'd', b"one"), message(b'c', b""));
    peer.write_all(&[one.clone(), two.clone()].concat()).await.unwrap();
    wire.step(true).await.unwrap();
    assert_eq!(wire.next_message().unwrap().unwrap(), one[..]);
    assert_eq!(wire.next_message().unwrap().unwrap(), two[..]);
    assert_eq!(wire.next_message().unwrap(), None);
}

/// Trap 4.16 of docs/traps.md.
#[tokio::test]
async fn a_read_cancelled_inside_a_message_loses_nothing() {
    let (mut wire, mut peer) = pair();
    let sent = message(b'd', b"cut in two");
    let (front, back) = sent.split_at(8);
    peer.write_all(front).await.unwrap();
    let waiting = async {
        loop {
            wire.step(true).await.unwrap();
        }
    };
    assert!(
        timeout(Duration::from_millis(20), waiting).await.is_err(),
        "cancelled while waiting for the rest"
    );
    peer.write_all(back).await.unwrap();
    assert_eq!(next(&mut wire).await, sent[..]);
}

#[tokio::test]
async fn output_is_written_whole_while_input_comes_in() {
    let (mut wire, mut peer) = pair();
    let large = vec![7; 4 * 1024 * 1024];
    wire.output.extend_from_slice(&large);
    let theirs = tokio::spawn(async move {
        peer.write_all(&message(b'd', b"x")).await.unwrap();
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        got
    });
    while !wire.output.is_empty() {
        // Cancelled as often as can be.
        let _ = timeout(Duration::from_micros(50), wire.step(true)).await;
    }
    assert_eq!(next(&mut wire).await, message(b'd', b"x")[..]);
    drop(wire);
    assert!(theirs.await.unwrap() == large);
}

#[tokio::test]
async fn the_servers_last_words_come_before_a_failed_write() {
    let (mut wire, mut peer) = pair();
    let last = message(b'E', b"bye");
    peer.write_all(&last).await.unwrap();
    drop(peer);
    wire.output.extend_from_slice(b"status");
    wire.step(false).await.unwrap();
    assert_eq!(wire.next_message().unwrap().unwrap(), last[..]);
    assert!(
        matches!(wire.step(false).await, Err(Broken::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    );
}

#[tokio::test]
async fn the_end_of_the_stream_is_told() {
    let (mut wire, peer) = pair();
    drop(peer);
    assert!(matches!(wire.step(true).await, Err(Broken::Closed)));
}

#[tokio::test]
async fn impossible_lengths_are_refused_before_anything_is_reserved() {
    for length in [0, 3, 0x4001_0001, 0x8000_0000, u32::MAX] {
        let (mut wire, mut peer) = pair();
        peer.write_all(&[&b"d"[..], &length.to_be_bytes()].concat()).await.unwrap();
        wire.step(true).await.unwrap();
        assert_eq!(wire.next_message(), Err(BadLength { tag: b'd', length }));
        assert!(wire.input.capacity() <= CHUNK);
    }
}

#[tokio::test]
async fn a_large_message_does_not_leave_a_large_buffer() {
    const LARGE: usize = 8 * 1024 * 1024;
    let (mut wire, mut peer) = pair();
    let writer = tokio::spawn(async move {
        peer.write_all(&message(b'd', &vec![1; LARGE])).await.unwrap();
        peer.write_all(&message(b'd', b"small")).await.unwrap();
        peer
    });
    let large = next(&mut wire).await;
    assert_eq!(large.len(), HEADER + LARGE);
    assert!(wire.chunk >= LARGE && wire.chunk < LARGE + 3 * MIN_READ);
    assert_eq!(next(&mut wire).await, message(b'd', b"small")[..]);
    let mut peer = writer.await.unwrap();
    peer.write_all(&message(b'd', b"more")).await.unwrap();
    assert_eq!(next(&mut wire).await, message(b'd', b"more")[..]);
    assert_eq!(wire.chunk, CHUNK);
    assert!(wire.input.capacity() <= CHUNK);
    assert!(large[HEADER..].iter().all(|byte| *byte == 1), "a slice that is kept stays as it was");
}

#[tokio::test]
async fn slices_that_are_kept_stay_as_they_were_and_the_chunk_is_used_again_after_them() {
    let (mut wire, mut peer) = pair();
    let mut kept = Vec::new();
    for round in 0..2000_u32 {
        peer.write_all(&message(b'd', &round.to_be_bytes().repeat(100))).await.unwrap();
        kept.push(next(&mut wire).await.freeze());
    }
    for (round, message) in kept.iter().enumerate() {
        let expected = u32::try_from(round).unwrap().to_be_bytes().repeat(100);
        assert_eq!(message[HEADER..], expected[..]);
    }
    assert_eq!(wire.chunk, CHUNK);
}
