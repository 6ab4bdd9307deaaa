//! Rules about the source that no compiler checks: layers, unsafe code, the shape of files.
//!
//! Every rule reports all places at once, as `file:line: what`.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the top down. An import goes to the same layer or to one further down.
const LAYERS: [&str; 12] = [
    "lib",
    "__private",
    "api",
    "manage",
    "callable",
    "guard",
    "sched",
    "worker",
    "transport",
    "shm",
    "os",
    "error",
];

/// What the crate's root has from the macros, which are no part of the runtime.
const ATTRIBUTES: [&str; 3] = ["task", "managed", "main"];

/// Where unsafe code may stand, and why it can't stand in `os`, where all the rest of it is.
const UNSAFE: [(&str, &str); 12] = [
    ("os/", "the only system calls, and what can't be said in safe Rust"),
    ("shm/channel.rs", "vouches for the fields of queues and pipes"),
    ("shm/data.rs", "makes slices of memory that other processes see, too"),
    ("shm/heap/layout.rs", "vouches for the fields of entries"),
    ("shm/page.rs", "vouches for the fields of the shared page"),
    ("shm/system.rs", "vouches for the words of locks"),
    ("worker/dispatch.rs", "vouches for the magic number in a descriptor"),
    ("callable/stateless.rs", "knows that a callable existed when one is made from its type"),
    ("callable/tests.rs", "has a descriptor where none may be found"),
    ("manage/maker.rs", "vouches for the magic number in a maker"),
    ("manage/class/tests.rs", "linkme's attribute needs it; there is no unsafe block"),
    ("guard/mod.rs", "linkme's attribute needs it; there is no unsafe block"),
];

/// More lines than this want a reason at the top of the file: the words "long because".
const LONG: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace").to_owned()
}

/// The Rust files below a directory, with their paths from there.
fn sources(directory: &str) -> Vec<(String, String)> {
    let top = root().join(directory);
    let mut files = Vec::new();
    let mut directories = vec![top.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("the workspace is whole").flatten() {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("ui") && !path.ends_with("target") {
                    directories.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&top).expect("it is below").display().to_string();
                files.push((name, fs::read_to_string(&path).expect("sources are text")));
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "there are sources in {directory}");
    files
}

/// The lines of a file with their numbers, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    (1..).zip(text.lines().map(move |line| if is_code(&line) { without_comment(line) } else { "" }))
}

fn without_comment(line: &str) -> &str {
    line.split(" // ").next().unwrap_or(line)
}

#[track_caller]
fn assert_none(rule: &str, places: &[String]) {
    assert!(places.is_empty(), "{rule}:\n{}", places.join("\n"));
}

/// The layer of a file of the runtime.
fn layer_of(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file).trim_end_matches(".rs");
    if first == "private" { "__private" } else { first }
}

fn height(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|other| *other == layer)
}

/// The modules that a line names from the crate's root: `crate::os::wait`, `crate::{api, os}`.
fn named(line: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        if line[..at].ends_with(is_name) || line[..at].ends_with('$') {
            continue;
        }
        let rest = &line[at + "crate::".len()..];
        let list = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
        let paths = list.map_or_else(|| vec![rest], |list| list.split(',').collect());
        for path in paths {
            let path = path.trim_start();
            found.push(&path[..path.find(|c| !is_name(c)).unwrap_or(path.len())]);
        }
    }
    found
}

/// The import in a line that goes up from a layer.
fn upward(layer: &str, line: &str) -> Option<String> {
    let here = height(layer)?;
    let above =
        |name: &&str| !ATTRIBUTES.contains(name) && height(name).is_none_or(|there| there < here);
    named(line).into_iter().find(above).map(str::to_owned)
}

#[test]
fn imports_go_down_the_layers() {
    let mut places = Vec::new();
    for (file, text) in sources("runtime/src") {
        let layer = layer_of(&file);
        assert!(height(layer).is_some(), "{file} is in no layer: name it in LAYERS");
        for (number, line) in code(&text) {
            if let Some(name) = upward(layer, line) {
                places.push(format!("runtime/src/{file}:{number}: {layer} uses {name}"));
            }
        }
    }
    assert_none("these imports go up", &places);
}

#[test]
fn an_upward_import_would_be_found() {
    assert_eq!(upward("os", "use crate::worker::tasks;").as_deref(), Some("worker"));
    assert_eq!(upward("error", "    let x = crate::os::clock::nanos();").as_deref(), Some("os"));
    assert_eq!(upward("shm", "use crate::{os::memory, sched::Crew};").as_deref(), Some("sched"));
    assert_eq!(upward("sched", "pub use crate::Pool;").as_deref(), Some("Pool"));
    assert_eq!(upward("sched", "use crate::os::{epoll, wait};"), None);
    assert_eq!(upward("sched", "use crate::sched::core::Core;"), None);
    assert_eq!(upward("lib", "pub use crate::error::Error;"), None);
}

#[test]
fn unsafe_code_stands_where_it_is_expected() {
    let mut places = Vec::new();
    let mut used = [false; UNSAFE.len()];
    for (file, text) in sources("runtime/src") {
        let allowed = UNSAFE.iter().position(|(place, _)| file.starts_with(place));
        for (number, line) in code(&text) {
            let is_unsafe = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if is_unsafe.clone().any(|word| word == "unsafe" || word == "unsafe_code") {
                match allowed {
                    Some(i) => used[i] = true,
                    None => places.push(format!("runtime/src/{file}:{number}: {}", line.trim())),
                }
            }
        }
    }
    for directory in ["macros/src", "examples", "benches"] {
        for (file, text) in sources(directory) {
            for (number, line) in code(&text) {
                // The one shows what C does, the other measures a bare fork.
                let is_known =
                    file.ends_with("crash_isolation.rs") || file.ends_with("fork_server.rs");
                if !is_known && line.contains("(unsafe_code") {
                    places.push(format!("{directory}/{file}:{number}: {}", line.trim()));
                }
            }
        }
    }
    assert_none("unsafe code where none is expected", &places);
    let idle =
        UNSAFE.iter().zip(used).filter(|(_, used)| !used).map(|((place, _), _)| place.to_string());
    assert_none("no unsafe code any more: take them off the list", &idle.collect::<Vec<_>>());
}

#[test]
fn lib_rs_holds_docs_modules_and_exports_only() {
    let text = fs::read_to_string(root().join("runtime/src/lib.rs")).expect("there is a lib.rs");
    let mut places = Vec::new();
    let mut inside = false;
    for (number, line) in code(&text) {
        let line = line.trim();
        let begins =
            ["mod ", "pub mod ", "pub use ", "#[", "#!["].iter().any(|word| line.starts_with(word));
        if !line.is_empty() && !inside && !begins {
            places.push(format!("runtime/src/lib.rs:{number}: {line}"));
        }
        if begins || inside {
            inside = !line.ends_with([';', ']']);
        }
        if line.contains("mod ") && line.ends_with('{') {
            places.push(format!("runtime/src/lib.rs:{number}: {line}"));
        }
    }
    assert_none("lib.rs holds docs, `mod` and `pub use`", &places);
}

#[test]
fn long_files_say_why() {
    let mut places = Vec::new();
    for directory in ["runtime", "macros", "tests", "examples", "benches"] {
        for (file, text) in sources(directory) {
            let lines = text.lines().count();
            let says_why = text.lines().take(40).any(|line| line.contains("long because"));
            if lines > LONG && !says_why {
                places.push(format!("{directory}/{file}:{lines}: no \"long because\" at its top"));
            }
        }
    }
    assert_none("files above 600 lines", &places);
}

#[test]
fn every_file_of_the_runtime_opens_with_its_purpose() {
    let files = sources("runtime/src");
    let silent = files.iter().filter(|(_, text)| !text.starts_with("//! "));
    let places: Vec<String> = silent.map(|(file, _)| format!("runtime/src/{file}:1")).collect();
    assert_none("no `//!` at the top", &places);
}

#[test]
fn the_macros_stand_alone_and_are_pinned() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("there is a manifest");
    let macros = read("macros/Cargo.toml");
    assert!(!macros.contains("path ="), "macros depends on a crate by its path");
    let dependencies = macros.split("[dependencies]").nth(1).expect("it has dependencies");
    assert!(!dependencies.contains("procession"), "macros depends on a crate of the workspace");
    let workspace = read("Cargo.toml");
    for name in ["procession", "procession-macros"] {
        let pinned = workspace.lines().find(|line| line.starts_with(&format!("{name} = ")));
        assert!(pinned.expect("it is listed").contains("version = \"="), "{name} isn't pinned");
    }
    assert!(read("runtime/Cargo.toml").contains("procession-macros.workspace = true"));
}
