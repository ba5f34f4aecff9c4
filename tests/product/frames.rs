//! How much stack the library needs, read from the machine code of `cargo build --release`. A host may call it on a thread's or
//! a signal handler's stack of a few pages, and its start and exit run in every program.
//!
//! Only the library's own functions count: not those of libc or libibverbs that they call.

use crate::common::library;
use elf::{ElfBytes, abi, endian::LittleEndian};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// For one function on the path of a call that the library only forwards.
/// (The one that reads the settings has the most: once, at start.)
const LARGEST_FRAME: u64 = 640;

/// For a registration, from the call of `ibv_reg_mr_iova2` on: while it waits, and while it asks whether the holder still runs.
const REGISTRATION: u64 = 3200;

/// For a registration that has a line to write: the line is 1024 bytes of it.
const REGISTRATION_WITH_A_LINE: u64 = 5888;

/// These are called only if there is something to do: a request of the table, a setting that is not understood, a report to
/// write.
const SOMETHING_TO_DO: [&str; 5] = [
    // A new process, or one whose memory is not wiped in a child.
    "mrlock::base::process::find",
    "mrlock::hook::ioctl::uverbs",
    "mrlock::hook::ioctl::rm_free",
    COMPLAINT,
    "mrlock::record::exit_report::write_to",
];

/// It writes a line.
const COMPLAINT: &str = "mrlock::base::settings::variables::not_understood";

/// The log facade calls it through a pointer.
const SINK: &str = "<mrlock::base::log_sink::StandardError as log::Log>::log";

/// These call the loader's functions through pointers, and write no line. (Of their modules, only `WRITER` does.)
const LOADERS_CALLERS: [&str; 2] = ["mrlock::resolve::", "mrlock::base::dl::"];
const WRITER: &str = "mrlock::resolve::Resolver";

/// Formatting calls it, and it calls formatting again.
const FORMAT: &str = "core::fmt::write";

/// So many are active at once in the deepest line: the line's, its message's, and that of a value in the message. Without a
/// line, a waiter formats the name of the holder's file in /proc.
const NESTED_FORMATS: usize = 3;

#[test]
fn no_large_frame_until_there_is_something_to_do() {
    let program = Program::read();
    for name in SOMETHING_TO_DO {
        program.symbol(name);
    }
    let ways = [
        ("a foreign ioctl", vec![program.symbol("ioctl")]),
        ("start", program.pointers(".init_array")),
        ("exit", program.pointers(".fini_array")),
    ];
    let mut large = BTreeSet::new();
    for (way, entries) in ways {
        let mut reached = BTreeSet::new();
        for &entry in entries
            .iter()
            .filter(|entry| program.functions.contains_key(entry))
        {
            program.reach(entry, &mut reached);
        }
        assert!(!reached.is_empty(), "{way} has no function");
        let functions = reached.iter().map(|address| &program.functions[address]);
        large.extend(
            functions
                .filter(|function| function.frame > LARGEST_FRAME)
                .map(|Function { name, frame, .. }| {
                    format!("on the way of {way}: {name}: {frame} bytes")
                }),
        );
    }
    assert!(large.is_empty(), "{large:#?}");
}

#[test]
fn a_registration_needs_little_stack() {
    let program = Program::read();
    let entry = program.symbol("ibv_reg_mr_iova2");
    for (line, formats, budget) in [
        (false, 1, REGISTRATION),
        (true, NESTED_FORMATS, REGISTRATION_WITH_A_LINE),
    ] {
        let deepest = program.deepest(entry, line, formats, &mut Known::new());
        let names = deepest
            .functions
            .iter()
            .map(|address| &program.functions[address].name);
        let names: Vec<_> = names.collect();
        println!("with a line: {line}: {} bytes: {names:#?}", deepest.bytes);
        // It has seen the way that a waiter goes.
        assert!(deepest.bytes > 512, "{} bytes: {names:#?}", deepest.bytes);
        assert!(
            deepest.bytes < budget,
            "{} bytes: {names:#?}",
            deepest.bytes
        );
    }
}

/// The library's functions by their addresses.
struct Program {
    functions: BTreeMap<u64, Function>,
    /// The pointers that the loader makes: where they are, and what they point to.
    pointers: BTreeMap<u64, u64>,
    arrays: BTreeMap<&'static str, std::ops::Range<u64>>,
}

struct Function {
    name: String,
    /// The bytes from its return address, inclusive, to its end.
    frame: u64,
    calls: BTreeSet<Call>,
}

/// How much stack the caller keeps during the call, and the function; none if it is called through a pointer.
type Call = (u64, Option<u64>);

/// Functions that are active at the same time, and the stack that they use.
#[derive(Default, Clone)]
struct Path {
    functions: Vec<u64>,
    bytes: u64,
}

impl Program {
    fn read() -> Self {
        let bytes = fs::read(library()).expect("it was built");
        let file: ElfBytes<LittleEndian> = ElfBytes::minimal_parse(&bytes).expect("an ELF file");
        let section = |name| {
            let header = file.section_header_by_name(name).expect("readable");
            header.unwrap_or_else(|| panic!("there is no section {name}"))
        };
        let arrays = [".init_array", ".fini_array"].map(|name| {
            let header = section(name);
            (name, header.sh_addr..header.sh_addr + header.sh_size)
        });
        let relocations = file.section_data_as_relas(&section(".rela.dyn"));
        let pointers = relocations
            .expect("readable")
            .filter(|entry| entry.r_type == abi::R_X86_64_RELATIVE);
        let mut program = Self {
            functions: BTreeMap::new(),
            pointers: pointers
                .map(|entry| (entry.r_offset, entry.r_addend as u64))
                .collect(),
            arrays: arrays.into(),
        };

        let text = section(".text");
        let (code, _) = file.section_data(&text).expect("readable");
        let (symbols, names) = file
            .symbol_table()
            .expect("readable")
            .expect("it is not stripped");
        // What has no size comes with the C compiler and is called by nothing of ours.
        let functions = symbols
            .iter()
            .filter(|symbol| symbol.st_symtype() == abi::STT_FUNC && symbol.st_size > 0);
        for symbol in functions {
            let name = names.get(symbol.st_name as usize).expect("a name");
            let name = format!("{:#}", rustc_demangle::demangle(name));
            let code =
                &code[(symbol.st_value - text.sh_addr) as usize..][..symbol.st_size as usize];
            let function = program.function(name, symbol.st_value, code);
            program.functions.insert(symbol.st_value, function);
        }
        program
    }

    /// Follows the stack pointer through a function, from one instruction to the next. Where no instruction goes on to the next
    /// one, a jump to it says how deep the stack is, or else it is as deep as ever before (jumps through a table).
    fn function(&self, name: String, start: u64, code: &[u8]) -> Function {
        let (mut depth, mut frame) = (RETURN_ADDRESS, RETURN_ADDRESS);
        let mut calls = BTreeSet::new();
        let mut at_target = BTreeMap::new();
        let (mut base, mut end_of_probes) = (None, None);
        let mut goes_on = true;
        for instruction in Decoder::with_ip(64, code, start, DecoderOptions::NONE) {
            if !goes_on {
                depth = at_target.get(&instruction.ip()).copied().unwrap_or(frame);
            }
            let flow = instruction.flow_control();
            let kept = match flow {
                FlowControl::Call | FlowControl::IndirectCall => depth,
                _ => depth.wrapping_sub(RETURN_ADDRESS), // a jump into another function takes this one's place
            };
            match target(&instruction) {
                Some(to) if (start..start + code.len() as u64).contains(&to) => {
                    at_target.insert(to, depth);
                }
                Some(to) => {
                    calls.insert((kept, Some(to)));
                }
                None if matches!(
                    flow,
                    FlowControl::IndirectCall | FlowControl::IndirectBranch
                ) =>
                {
                    if !instruction.is_ip_rel_memory_operand() {
                        calls.insert((kept, None));
                    } else if let Some(&to) =
                        self.pointers.get(&instruction.ip_rel_memory_address())
                    {
                        calls.insert((kept, Some(to)));
                    } // else: a function of another library
                }
                None => {}
            }
            let below = |depth: u64| depth.wrapping_sub(instruction.memory_displacement64());
            match (instruction.mnemonic(), instruction.op0_register()) {
                (Mnemonic::Push, _) => depth += 8,
                (Mnemonic::Pop, _) => depth -= 8,
                (Mnemonic::Sub, Register::RSP) => {
                    depth = depth.wrapping_add(instruction.immediate(1))
                }
                (Mnemonic::Add, Register::RSP) => {
                    depth = depth.wrapping_sub(instruction.immediate(1))
                }
                // A large frame is touched page by page, in a loop that ends at r11.
                (Mnemonic::Lea, Register::R11) if instruction.memory_base() == Register::RSP => {
                    end_of_probes = Some(below(depth));
                }
                (Mnemonic::Cmp, Register::RSP) if instruction.op1_register() == Register::R11 => {
                    depth = end_of_probes.expect("r11 was set before the loop");
                }
                (Mnemonic::Mov, Register::RBP) if instruction.op1_register() == Register::RSP => {
                    base = Some(depth)
                }
                (Mnemonic::Lea, Register::RSP) if instruction.memory_base() == Register::RSP => {
                    depth = below(depth);
                }
                (Mnemonic::Lea, Register::RSP) if instruction.memory_base() == Register::RBP => {
                    depth = below(base.expect("rbp was set at the start"));
                }
                (Mnemonic::Cmp | Mnemonic::Test, _) => {}
                (_, Register::RSP | Register::ESP) | (Mnemonic::Leave, _) => {
                    panic!("{name}: this test does not know {instruction:?}")
                }
                _ => {}
            }
            frame = frame.max(depth);
            goes_on = !matches!(
                flow,
                FlowControl::Return
                    | FlowControl::UnconditionalBranch
                    | FlowControl::IndirectBranch
                    | FlowControl::Exception
            );
        }
        Function { name, frame, calls }
    }

    fn symbol(&self, name: &str) -> u64 {
        let mut functions = self.functions.iter();
        let found = functions.find(|(_, function)| function.name == name);
        *found
            .unwrap_or_else(|| panic!("there is no function {name}"))
            .0
    }

    fn pointers(&self, section: &str) -> Vec<u64> {
        self.pointers
            .range(self.arrays[section].clone())
            .map(|(_, &to)| to)
            .collect()
    }

    /// Adds the function at `address`, and those that it calls, unless there is something to do then.
    fn reach(&self, address: u64, reached: &mut BTreeSet<u64>) {
        let Some(function) = self.functions.get(&address) else {
            return; // the procedure linkage table
        };
        if SOMETHING_TO_DO.contains(&&*function.name) || !reached.insert(address) {
            return;
        }
        for to in function.calls.iter().filter_map(|(_, to)| *to) {
            self.reach(to, reached);
        }
    }

    /// The deepest of all paths from the function at `address`, with so many formats left that may be nested in one another.
    fn deepest(&self, address: u64, line: bool, formats: usize, known: &mut Known) -> Path {
        let Some(function) = self.functions.get(&address) else {
            return Path::default();
        };
        if !line && function.name == COMPLAINT {
            return Path::default();
        }
        if let Some(path) = known.get(&(address, formats)) {
            return path.clone();
        }
        let calls_the_loader = LOADERS_CALLERS
            .iter()
            .any(|module| function.name.starts_with(module))
            && !function.name.starts_with(WRITER);
        let mut deepest = Path {
            bytes: function.frame,
            functions: vec![address],
        };
        for &(kept, to) in &function.calls {
            let is_format = |to: &u64| self.functions.get(to).is_some_and(|to| to.name == FORMAT);
            let (callees, formats) = match to {
                Some(to) if is_format(&to) && formats == 0 => continue,
                Some(to) if is_format(&to) => (vec![to], formats - 1),
                Some(to) => (vec![to], formats),
                None if function.name == FORMAT => (self.named("fmt"), formats),
                None if function.name.contains("fmt") => (
                    [self.named("write_str"), self.named("write_char")].concat(),
                    formats,
                ),
                None if line && !calls_the_loader => (vec![self.symbol(SINK)], formats),
                None => continue, // out of the library
            };
            for to in callees {
                let mut path = self.deepest(to, line, formats, known);
                path.bytes += kept;
                if path.bytes > deepest.bytes {
                    path.functions.insert(0, address);
                    deepest = path;
                }
            }
        }
        known.insert((address, formats), deepest.clone());
        deepest
    }

    /// The functions of core's traits for formatting whose own name begins so: they are called through pointers.
    fn named(&self, name: &str) -> Vec<u64> {
        let of_a_trait = |function: &Function| {
            let (path, own) = function.name.rsplit_once("::").unwrap_or_default();
            own.starts_with(name) && (path.ends_with('>') || path.ends_with("Write"))
        };
        let functions = self.functions.iter();
        functions
            .filter(|(_, function)| of_a_trait(function))
            .map(|(&address, _)| address)
            .collect()
    }
}

/// What `deepest` has found.
type Known = BTreeMap<(u64, usize), Path>;

/// A call leaves it on the stack.
const RETURN_ADDRESS: u64 = 8;

/// Where a direct call or jump goes to.
fn target(instruction: &Instruction) -> Option<u64> {
    (instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64)
        .then(|| instruction.near_branch_target())
}
