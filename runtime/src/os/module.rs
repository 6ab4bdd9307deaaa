//! The module that holds this runtime: the executable or shared object in which this code lies,
//! as the loader mapped it.
//!
//! Two processes that run the same image have the same statics at the same offsets from the
//! module's base, wherever address space layout randomisation has put it. So an offset can name a
//! static across processes; [`Module::static_at`] turns it back into a reference, and trusts
//! nothing about it.
//!
//! Everything here is computed once and never changes: the runtime's own module can't be unloaded
//! while its code runs.

#![expect(unsafe_code, reason = "reads the loader's tables and statics by their address")]

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::OnceLock;
use std::{ptr, slice};

use nix::libc;

/// A type that can be recognised in memory.
///
/// # Safety
/// The type must be `repr(C)` with a first field of type `u64`, aligned to 8 bytes or more, that
/// is [`MAGIC`](Self::MAGIC) in each of its values; no other bytes of the program's constants may
/// hold that number at an aligned place, which is so when it was drawn at random and stands nowhere
/// else; and it must have no interior mutability.
pub(crate) unsafe trait Marked: Sync + Sized + 'static {
    /// The number in the first field.
    const MAGIC: u64;
}

/// The module of this runtime, as the loader mapped it.
#[derive(Debug)]
pub(crate) struct Module {
    base: usize,
    constants: Vec<Range<usize>>,
    build_id: Option<Vec<u8>>,
    is_executable: bool,
}

/// Why an offset names no static.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadOffset {
    /// It is not within the module's constants.
    Outside,
    /// No value of the type can start there.
    Unaligned,
    /// Something else is there.
    NoMagic,
}

impl Module {
    /// The module that holds this runtime.
    pub(crate) fn current() -> &'static Module {
        static MODULE: OnceLock<Module> = OnceLock::new();
        MODULE.get_or_init(find)
    }

    /// The GNU build id, if the linker was told to write one.
    pub(crate) fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// Whether this module is the program itself, not a shared object in another program.
    pub(crate) fn is_executable(&self) -> bool {
        self.is_executable
    }

    /// How far a static lies from the module's base. Meaningless for a static of another module.
    pub(crate) fn offset_of<T>(&self, place: &'static T) -> u64 {
        // Lossless: an address has at most 64 bits on every target of Rust.
        ptr::from_ref(place).expose_provenance().wrapping_sub(self.base) as u64
    }

    /// The static of type `T` at this offset, which may be any number.
    pub(crate) fn static_at<T: Marked>(&self, offset: u64) -> Result<&'static T, BadOffset> {
        const { assert!(align_of::<T>() >= align_of::<u64>() && size_of::<T>() >= 8) };
        let offset = usize::try_from(offset).map_err(|_| BadOffset::Outside)?;
        let start = self.base.wrapping_add(offset);
        let end = start.checked_add(size_of::<T>()).ok_or(BadOffset::Outside)?;
        if !self.constants.iter().any(|range| range.start <= start && end <= range.end) {
            return Err(BadOffset::Outside);
        }
        if !start.is_multiple_of(align_of::<T>()) {
            return Err(BadOffset::Unaligned);
        }
        let magic = ptr::with_exposed_provenance::<u64>(start);
        // SAFETY: `start..end` lies within one range of `constants`, which `find` took from the
        // loader's table of a module that stays mapped: readable, at least 8 bytes, and written
        // by nobody since the loader was done. `T` is aligned to at least 8, and `start` to `T`.
        let found = unsafe { magic.read() };
        if found != T::MAGIC {
            return Err(BadOffset::NoMagic);
        }
        let place = ptr::with_exposed_provenance::<T>(start);
        // SAFETY: as above for all of `start..end`. By the contract of `Marked` the magic is
        // nowhere but at the start of a value of `T`, and a constant one has been there since the
        // loader was done, so a shared reference for ever is right.
        Ok(unsafe { &*place })
    }
}

/// What the walk over the loader's table looks for, and what it finds.
struct Search {
    /// An address in the module that is looked for.
    within: usize,
    found: Option<Module>,
}

fn find() -> Module {
    static HERE: u8 = 0;
    let mut search = Search { within: (&raw const HERE).expose_provenance(), found: None };
    // SAFETY: `visit` has the type that is asked for and takes its third argument as a `Search`,
    // which `search` is, exclusively ours until the call returns.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.found.expect("the loader lists the module whose code is running")
}

/// Called by the loader for each module; a result other than zero ends the walk.
///
/// # Safety
/// `info` must be the loader's description of a module, and `search` an exclusive `Search`.
unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    search: *mut c_void,
) -> c_int {
    // SAFETY: the loader passes a valid description that is ours to read during this call.
    let info = unsafe { &*info };
    // SAFETY: `find` passed an exclusive `Search`, and nobody else uses it during the walk.
    let search = unsafe { &mut *search.cast::<Search>() };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the loader keeps `dlpi_phnum` program headers at `dlpi_phdr`, mapped and unchanged
    // as long as the module is.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    // Lossless: addresses of this very process.
    let base = info.dlpi_addr as usize;
    let holds = |header: &Header| {
        header.p_type == libc::PT_LOAD && addresses(base, header).contains(&search.within)
    };
    if !headers.iter().any(holds) {
        return 0;
    }
    // SAFETY: `getauxval` has no conditions.
    let program_headers = unsafe { libc::getauxval(libc::AT_PHDR) };
    search.found = Some(Module {
        base,
        constants: constants(base, headers),
        build_id: headers.iter().find_map(|header| build_id(base, header, headers)),
        is_executable: program_headers as usize == info.dlpi_phdr.addr(),
    });
    1
}

#[cfg(target_pointer_width = "64")]
type Header = libc::Elf64_Phdr;
#[cfg(target_pointer_width = "32")]
type Header = libc::Elf32_Phdr;

/// Where a segment was mapped.
fn addresses(base: usize, header: &Header) -> Range<usize> {
    let start = base.wrapping_add(header.p_vaddr as usize);
    start..start.saturating_add(header.p_memsz as usize)
}

/// Where constants lie: in segments that are readable only, and in the part that the loader makes
/// so after it has relocated it (a constant with a pointer in it is there). Only a module linked
/// without that protection has them among its variables.
fn constants(base: usize, headers: &[Header]) -> Vec<Range<usize>> {
    let protected = headers.iter().any(|header| header.p_type == libc::PT_GNU_RELRO);
    let is_constant = |header: &&Header| match header.p_type {
        libc::PT_LOAD => {
            let writable = header.p_flags & libc::PF_W != 0;
            header.p_flags & libc::PF_R != 0
                && header.p_flags & libc::PF_X == 0
                && !(writable && protected)
        }
        libc::PT_GNU_RELRO => true,
        _ => false,
    };
    headers.iter().filter(is_constant).map(|header| addresses(base, header)).collect()
}

/// The GNU build id, if this segment is a list of notes that has one.
fn build_id(base: usize, header: &Header, headers: &[Header]) -> Option<Vec<u8>> {
    let place = addresses(base, header);
    let is_mapped = |segment: &Header| {
        let whole = addresses(base, segment);
        segment.p_type == libc::PT_LOAD
            && segment.p_flags & libc::PF_R != 0
            && segment.p_flags & libc::PF_W == 0
            && whole.start <= place.start
            && place.end <= whole.end
    };
    if header.p_type != libc::PT_NOTE || !headers.iter().any(is_mapped) {
        return None;
    }
    let first = ptr::with_exposed_provenance::<u8>(place.start);
    // SAFETY: `is_mapped` has found that the notes lie within a segment which is mapped readable
    // and which nobody can write.
    let notes = unsafe { slice::from_raw_parts(first, place.len()) };
    notes_build_id(notes, header.p_align as usize)
}

/// Finds the GNU build id in a list of notes: each has three words (length of the owner's name,
/// length of the content, kind), the owner and the content, both padded. See elf(5), `Elf64_Nhdr`.
fn notes_build_id(mut notes: &[u8], align: usize) -> Option<Vec<u8>> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let align = align.max(4);
    while let Some((head, rest)) = notes.split_at_checked(12) {
        let word = |i: usize| {
            let bytes = head[4 * i..4 * i + 4].try_into().expect("four bytes");
            u32::from_ne_bytes(bytes)
        };
        let (owner_len, content_len, kind) = (word(0) as usize, word(1) as usize, word(2));
        let content_start = owner_len.checked_next_multiple_of(align)?;
        let owner = rest.get(..owner_len)?;
        let content = rest.get(content_start..)?.get(..content_len)?;
        if kind == NT_GNU_BUILD_ID && owner == b"GNU\0" {
            return Some(content.to_vec());
        }
        let next = content_start.checked_add(content_len)?.checked_next_multiple_of(align)?;
        notes = rest.get(next..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::notes_build_id;

    fn note(owner: &[u8], content: &[u8], kind: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [owner.len(), content.len(), usize::try_from(kind).unwrap()] {
            bytes.extend(u32::try_from(word).unwrap().to_ne_bytes());
        }
        for part in [owner, content] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn the_build_id_is_found_among_other_notes() {
        let id = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        let all = [note(b"GNU\0", &[0; 5], 1), note(b"Go\0", &id, 3), note(b"GNU\0", &id, 3)];
        assert_eq!(notes_build_id(&all.concat(), 4), Some(id.to_vec()));
        assert_eq!(notes_build_id(&all[..2].concat(), 4), None);
    }

    #[test]
    fn a_damaged_list_of_notes_has_no_build_id() {
        let whole = note(b"GNU\0", &[1; 20], 3);
        for len in 0..whole.len() {
            assert_eq!(notes_build_id(&whole[..len], 4), None, "{len}");
        }
        assert_eq!(notes_build_id(&[0xff; 64], 4), None);
        assert_eq!(notes_build_id(&[], 0), None);
    }
}
