//! The numbers of arguments that a task may have.

/// Calls a macro once for each number of arguments, with one type name for each argument.
/// Twelve is where std stops for tuples.
macro_rules! for_each_arity {
    ($callback:ident) => {
        $callback! {}
        $callback! { A1 }
        $callback! { A1 A2 }
        $callback! { A1 A2 A3 }
        $callback! { A1 A2 A3 A4 }
        $callback! { A1 A2 A3 A4 A5 }
        $callback! { A1 A2 A3 A4 A5 A6 }
        $callback! { A1 A2 A3 A4 A5 A6 A7 }
        $callback! { A1 A2 A3 A4 A5 A6 A7 A8 }
        $callback! { A1 A2 A3 A4 A5 A6 A7 A8 A9 }
        $callback! { A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 }
        $callback! { A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 }
        $callback! { A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 }
    };
}
