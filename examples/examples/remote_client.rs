//! A server and its clients, which needn't be of one program: a listener, and connections to it that prove
//! that they know the key.
//!
//! Here the clients are processes of this program, so that it can show both sides; they get to know
//! nothing but an address and a key, as a client on another machine would.
//!
//! ```text
//! a client with a wrong key is turned away
//! a client asks for the square root of 2: 1.414
//! a client asks for the square root of 9: 3.000
//! a client asks for the square root of -1: that has none
//! ```

use procession::{Address, AuthKey, Connection, Error, Listener, Process, connect, task};

/// In earnest it is 32 random bytes from a file that only its owner can read.
const KEY: &str = "known to the server and its clients";

/// Connects and asks for square roots. Why there was no answer is an error as text.
#[task]
fn client(address: Address, key: String, numbers: Vec<f64>) -> Result<Vec<Option<f64>>, String> {
    let ask = || -> Result<Vec<Option<f64>>, Error> {
        let server: Connection<f64, Option<f64>> = connect(address, &AuthKey::new(key))?;
        let mut roots = Vec::new();
        for number in numbers {
            server.send(number)?;
            roots.push(server.recv()?);
        }
        Ok(roots)
    };
    ask().map_err(|error| error.to_string())
}

/// Serves one client until it has gone.
fn serve(client: &Connection<Option<f64>, f64>) -> Result<(), Error> {
    while let Ok(number) = client.recv() {
        client.send((number >= 0.0).then(|| number.sqrt()))?;
    }
    Ok(())
}

#[procession::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The system chooses the port.
    let listener = Listener::bind(Address::tcp("localhost", 0), &AuthKey::new(KEY))?;
    let address = listener.local_address();

    let stranger = Process::new(client, (address.clone(), "a guess".to_owned(), vec![4.0]));
    let stranger = stranger.start()?;
    match listener.accept::<Option<f64>, f64>() {
        Err(error) if error.is_authentication() && stranger.join()?.is_err() => {
            println!("a client with a wrong key is turned away");
        }
        other => println!("a client with a wrong key: {other:?}"),
    }

    let numbers = vec![2.0, 9.0, -1.0];
    let friend = Process::new(client, (address, KEY.to_owned(), numbers.clone())).start()?;
    serve(&listener.accept()?)?;
    for (number, root) in numbers.iter().zip(friend.join()??) {
        let root = root.map_or("that has none".to_owned(), |root| format!("{root:.3}"));
        println!("a client asks for the square root of {number}: {root}");
    }
    Ok(())
}
