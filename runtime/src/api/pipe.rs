//! Pipes between processes of one program.

use super::connection::{Connection, Receiver, Sender};
use crate::callable::task_fn::Payload;
use crate::error::Error;
use crate::shm::heap::layout_of;
use crate::transport::pipe::Pipe;

/// Both ends of a new duplex pipe, as Python's `Pipe()`: the first sends `S` and receives `R`, the second
/// the other way round.
///
/// An end can be an argument or a result of any task, or go through another pipe or a queue. It is closed
/// when it is dropped, or its process ends: the other end notices.
///
/// ```
/// use procession::{Connection, Process, pipe, task};
///
/// #[task]
/// fn double(numbers: Connection<u32, u32>) {
///     while let Ok(number) = numbers.recv() {
///         numbers.send(2 * number).unwrap();
///     }
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let (ours, theirs) = pipe()?;
/// let process = Process::new(double, (theirs,)).start()?;
/// ours.send(21)?;
/// assert_eq!(ours.recv()?, 42);
/// drop(ours);
/// process.join()?;
/// # Ok(())
/// # }
/// ```
///
/// An end that is a task's argument is held for it until the call is done, also when the task has dropped
/// it before: in a `map`, until all items are done. An end in a result is held while the result is. An
/// end that is sent through its own pipe, and left there, keeps the pipe for as long as the program runs.
///
/// # Errors
/// There is no memory for it.
#[expect(clippy::type_complexity, reason = "both ends, with their types, are what matters")]
pub fn pipe<S: Payload, R: Payload>() -> Result<(Connection<S, R>, Connection<R, S>), Error> {
    ends()
}

#[expect(clippy::type_complexity, reason = "as in `pipe`")]
fn ends<S, R>() -> Result<(Connection<S, R>, Connection<R, S>), Error> {
    let layouts = [layout_of::<(S, R)>(), layout_of::<(R, S)>()];
    let ends = Pipe::pair(layouts).map_err(|error| Error::system("can't make a pipe", &error))?;
    let [first, second] = ends;
    // Both are of one program: what one encodes, the other is ready to take.
    let limit = u64::MAX;
    Ok((Connection::new(Box::new(first), limit), Connection::new(Box::new(second), limit)))
}

/// Both ends of a new pipe that goes one way: what the first sends, the second receives.
///
/// ```
/// # fn main() -> Result<(), procession::Error> {
/// let (sender, receiver) = procession::pipe_one_way()?;
/// sender.send("hello".to_owned())?;
/// assert_eq!(receiver.recv()?, "hello");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// There is no memory for it.
pub fn pipe_one_way<T: Payload>() -> Result<(Sender<T>, Receiver<T>), Error> {
    ends()
}
