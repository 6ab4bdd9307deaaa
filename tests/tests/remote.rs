//! Connections between processes that know each other by an address and a key alone.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::process;
use std::time::{Duration, Instant};

use procession::{
    Address, AuthKey, Connection, Listener, Pool, Process, RecvError, connect, task, wait,
};
use procession_tests::alone;
use procession_tests::scratch::Scratch;

const KEY: &str = "a secret of the tests";

fn addresses(scratch: &Scratch) -> Vec<Address> {
    vec![
        Address::tcp("localhost", 0),
        Address::unix(scratch.path("socket")),
        Address::abstract_name(format!("procession tests {}", process::id())),
    ]
}

#[task]
fn client(address: String, key: String, numbers: u32) -> Result<u32, String> {
    let address: Address = address.parse().map_err(|error| format!("{error}"))?;
    let connection = connect::<u32, u32>(address, &AuthKey::new(key)).map_err(|error| {
        assert!(error.is_authentication(), "{error}");
        error.to_string()
    })?;
    for number in 0..numbers {
        connection.send(number).unwrap();
    }
    Ok((0..numbers).map(|_| connection.recv().unwrap()).sum())
}

#[test]
fn c4_processes_connect_with_a_key() {
    alone(|| {
        let scratch = Scratch::new();
        for address in addresses(&scratch) {
            let key = AuthKey::new(KEY);
            let listener = Listener::bind(address, &key).unwrap();
            let arguments = (listener.local_address().to_string(), KEY.to_owned(), 100);
            let process = Process::new(client, arguments).start().unwrap();
            let connection: Connection<u32, u32> = listener.accept().unwrap();
            while let Ok(number) = connection.recv_timeout(Duration::from_secs(10)) {
                connection.send(2 * number).unwrap();
            }
            assert_eq!(process.join().unwrap(), Ok(99 * 100));
            assert!(matches!(connection.recv(), Err(RecvError::Disconnected)));
        }
    });
}

#[test]
fn c4_a_wrong_key_is_an_error_on_both_sides() {
    alone(|| {
        let scratch = Scratch::new();
        for address in addresses(&scratch) {
            let listener = Listener::bind(address, &AuthKey::new(KEY)).unwrap();
            let arguments = (listener.local_address().to_string(), "another".to_owned(), 1);
            let process = Process::new(client, arguments.clone()).start().unwrap();
            let refused = listener.accept::<u32, u32>().unwrap_err();
            assert!(refused.is_authentication(), "{refused}");
            assert!(!refused.to_string().contains(KEY));
            let error = process.join().unwrap().unwrap_err();
            assert!(!error.contains("another"), "{error}");
            // The next one is let in.
            let arguments = (arguments.0, KEY.to_owned(), 1);
            let process = Process::new(client, arguments).start().unwrap();
            let connection: Connection<u32, u32> = listener.accept().unwrap();
            connection.send(connection.recv().unwrap() + 5).unwrap();
            assert_eq!(process.join().unwrap(), Ok(5));
        }
    });
}

#[task]
fn send_for_ever(address: String) {
    let connection: Connection<Vec<u8>, ()> =
        connect(address.parse::<Address>().unwrap(), &AuthKey::new(KEY)).unwrap();
    loop {
        connection.send(vec![7; 100_000]).unwrap();
    }
}

#[test]
fn c1_a_peer_that_is_killed_is_the_end_of_the_stream() {
    alone(|| {
        let scratch = Scratch::new();
        for address in addresses(&scratch) {
            let listener = Listener::bind(address, &AuthKey::new(KEY)).unwrap();
            for round in 0..10 {
                let address = listener.local_address().to_string();
                let process = Process::new(send_for_ever, (address,)).start().unwrap();
                let connection: Connection<(), Vec<u8>> = listener.accept().unwrap();
                for _ in 0..round {
                    assert_eq!(connection.recv().unwrap(), vec![7; 100_000]);
                }
                process.kill().unwrap();
                let start = Instant::now();
                // Whole messages, and then the end: never half a one.
                loop {
                    assert_eq!(wait(&[&connection], None).unwrap(), [0]);
                    match connection.recv() {
                        Ok(message) => assert_eq!(message.len(), 100_000),
                        Err(RecvError::Disconnected) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                assert!(start.elapsed() < Duration::from_secs(20));
                process.join().unwrap_err();
            }
        }
    });
}

#[test]
fn wait_takes_sockets_among_others() {
    alone(|| {
        let listener = Listener::bind(Address::tcp("localhost", 0), &AuthKey::new(KEY)).unwrap();
        let arguments = (listener.local_address().to_string(), KEY.to_owned(), 1);
        let process = Process::new(client, arguments).start().unwrap();
        let connection: Connection<u32, u32> = listener.accept().unwrap();
        let queue = procession::Queue::<u32>::unbounded().unwrap();
        let (ours, theirs) = procession::pipe::<u32, u32>().unwrap();
        assert_eq!(wait(&[&queue, &connection, &ours, &process], None).unwrap(), [1]);
        connection.recv().unwrap();
        let none = Some(Duration::from_millis(20));
        assert!(wait(&[&queue, &connection, &ours, &process], none).unwrap().is_empty());
        theirs.send(1).unwrap();
        assert_eq!(wait(&[&queue, &connection, &ours, &process], None).unwrap(), [2]);
        ours.recv().unwrap();
        connection.send(1).unwrap();
        process.join().unwrap().unwrap();
        let ready = wait(&[&queue, &connection, &ours, &process], None).unwrap();
        assert!(ready.contains(&3) || ready.contains(&1), "{ready:?}");
    });
}

#[task]
fn serve(connection: Connection<u32, u32>) -> u32 {
    let mut served = 0;
    while let Ok(number) = connection.recv() {
        connection.send(number * number).unwrap();
        served += 1;
    }
    served
}

#[test]
fn l11_a_connection_to_a_stranger_can_be_a_tasks_argument() {
    alone(|| {
        let scratch = Scratch::new();
        let pool = Pool::builder().processes(2).build().unwrap();
        for address in addresses(&scratch) {
            let key = AuthKey::new(KEY);
            let listener = Listener::bind(address, &key).unwrap();
            let clients: Vec<Connection<u32, u32>> =
                (0..4).map(|_| connect(listener.local_address(), &key).unwrap()).collect();
            let served: Vec<_> =
                (0..4).map(|_| pool.apply_async(serve, (listener.accept().unwrap(),))).collect();
            for (number, client) in (2..).zip(clients) {
                client.send(number).unwrap();
                assert_eq!(client.recv().unwrap(), number * number);
            }
            for result in served {
                assert_eq!(result.get().unwrap(), 1);
            }
        }
    });
}

#[task]
fn dial(address: String) -> Connection<u32, u32> {
    connect(address.parse::<Address>().unwrap(), &AuthKey::new(KEY)).unwrap()
}

#[test]
fn l11_a_connection_to_a_stranger_can_be_a_result_and_travel_in_a_queue() {
    alone(|| {
        let key = AuthKey::new(KEY);
        let listener = Listener::bind(Address::tcp("localhost", 0), &key).unwrap();
        let pool = Pool::builder().processes(1).build().unwrap();
        let client = pool.apply(dial, (listener.local_address().to_string(),)).unwrap();
        let server: Connection<u32, u32> = listener.accept().unwrap();
        let queue = procession::Queue::unbounded().unwrap();
        queue.put(server).unwrap();
        let server = queue.get().unwrap();
        client.send(7).unwrap();
        assert_eq!(server.recv().unwrap(), 7);
        // The copies that were left for receivers are closed in time.
        drop(client);
        assert!(matches!(server.recv(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn a_connection_in_the_middle_of_a_message_can_not_be_sent_on() {
    alone(|| {
        let key = AuthKey::new(KEY);
        let listener = Listener::bind(Address::tcp("localhost", 0), &key).unwrap();
        let ours = connect::<u32, u32>(listener.local_address(), &key).unwrap();
        let theirs: Connection<u32, u32> = listener.accept().unwrap();
        ours.send(1).unwrap();
        assert!(theirs.poll(Duration::from_secs(10)));
        let queue = procession::Queue::unbounded().unwrap();
        let error = queue.put(theirs).unwrap_err();
        assert!(error.to_string().contains("part of a message"), "{error}");
        assert_eq!(error.into_inner().recv().unwrap(), 1);
    });
}
