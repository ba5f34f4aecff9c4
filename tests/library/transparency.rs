//! A call has the same result as without the library: value, errno, structure and output, or a crash.

use crate::common::{Program, client, fixtures, library, machine, same_with_and_without};

#[test]
fn return_values_and_errno_of_every_entry_point() {
    for libibverbs in ["lib", "bsymbolic"] {
        let outcome = same_with_and_without(&client("outcomes").libibverbs(libibverbs));
        let outcome = outcome.succeeded("outcomes");
        // The output has calls that fail with an errno, and calls that leave it alone: the comparison covers both.
        assert!(
            outcome.stdout.contains("NULL, errno 14"),
            "no EFAULT in {outcome:#?}"
        );
        assert!(
            outcome.stdout.contains("errno 1234"),
            "errno was touched in {outcome:#?}"
        );
    }
}

#[test]
fn an_errno_that_a_successful_call_leaves_behind() {
    let outcome = same_with_and_without(&client("outcomes").env("FAKE_IBV_ERRNO_ON_SUCCESS", "77"));
    assert!(outcome.succeeded("outcomes").stdout.contains("errno 77"));
}

/// Logging writes between the call and its return; the caller must not see that in errno, nor on stdout.
#[test]
fn return_values_and_errno_while_everything_is_logged() {
    let program = client("outcomes");
    let without = program.run().succeeded("without the library");
    let with = program
        .preloaded()
        .env("MRLOCK_LOG", "trace")
        .run()
        .succeeded("with trace");
    assert_eq!(with.stdout, without.stdout);
    assert!(with.stderr.contains("trace: ibv_reg_mr "), "{with:#?}");
}

/// libibverbs crashes, and must crash with the library, too.
#[test]
fn a_null_protection_domain() {
    let outcome = same_with_and_without(&client("outcomes").arg("null-pd"));
    assert!(outcome.segfaulted(), "{outcome:#?}");
}

/// A caller of `ibv_reg_mr@IBVERBS_1.0`, whose structures differ, is not bound to mrlock's 1.1 definition.
#[test]
fn a_caller_of_the_1_0_abi() {
    same_with_and_without(&client("abi_1_0")).succeeded("abi_1_0");
}

#[test]
fn a_registration_in_the_constructor_of_a_library() {
    same_with_and_without(&client("registered_before_main")).succeeded("registered_before_main");
}

#[test]
fn a_libibverbs_that_has_all_entry_points() {
    same_with_and_without(&client("relaxed_ordering")).succeeded("relaxed_ordering");
}

/// Before rdma-core 28 there is no `ibv_reg_mr_iova2`, and before 61 no `ibv_reg_mr_ex`. A program that looks it up finds mrlock's.
/// The call must work like the plain registration that the program would otherwise have used; a dma-buf it cannot register.
#[test]
fn a_libibverbs_without_ibv_reg_mr_iova2() {
    let program = client("relaxed_ordering").libibverbs("old");
    let without = program.run().succeeded("without the library");
    for absent in ["ibv_reg_mr_iova2: absent", "ibv_reg_mr_ex: absent"] {
        assert!(without.stdout.contains(absent), "{without:#?}");
    }

    let with = program.preloaded().run().succeeded("with the library");
    for line in [
        "ibv_reg_mr_iova2: present",
        "iova equal to addr: a region, errno 0",
        // mrlock then calls ibv_reg_mr_iova, which such a libibverbs has.
        "another iova: a region, errno 0",
        "described by its address: a region, errno 0",
        "and another iova: a region, errno 0",
        "described as a dma-buf: NULL, errno 38", // ENOSYS
    ] {
        assert!(with.stdout.lines().any(|it| it == line), "{with:#?}");
    }
    let lines: Vec<_> = with.stderr.lines().collect();
    let names_it =
        |line: &str| line.contains("ibv_reg_mr_ex@IBVERBS_1.15: not defined by any library");
    assert!(lines.len() == 1 && names_it(lines[0]), "{with:#?}");
}

/// No libibverbs at all: every call fails as the real one would, one line for each function says why, and the process
/// goes on.
#[test]
fn no_libibverbs_in_the_process() {
    let without = client("without_libibverbs")
        .run()
        .succeeded("without the library");
    assert!(without.stdout.contains("absent"), "{without:#?}");

    let with = client("without_libibverbs")
        .preloaded()
        .run()
        .succeeded("with the library");
    assert_eq!(
        with.stdout,
        "ibv_reg_mr: NULL, errno 38\n\
         ibv_reg_mr_iova: NULL, errno 38\n\
         ibv_reg_mr_iova2: NULL, errno 38\n\
         ibv_rereg_mr: -1, errno 38\n\
         ibv_dereg_mr: 38, errno 38\n"
    );
    assert_eq!(with.stderr.lines().count(), 5, "{with:#?}");
    for name in [
        "ibv_reg_mr@",
        "ibv_reg_mr_iova@",
        "ibv_reg_mr_iova2@",
        "ibv_rereg_mr@",
        "ibv_dereg_mr@",
    ] {
        assert_eq!(with.stderr.matches(name).count(), 1, "{name} in {with:#?}");
    }
}

/// A process that does not use verbs is unchanged: no output, no report, no libibverbs.
#[test]
fn a_process_without_verbs() {
    let program = Program::new("cat").arg("/proc/self/maps");
    assert!(
        program
            .preloaded()
            .run()
            .succeeded("cat")
            .stdout
            .contains("libmrlock.so")
    );

    let program = Program::new("sh")
        .arg("-c")
        .arg("grep -c libibverbs /proc/self/maps; echo done");
    let outcome = same_with_and_without(&program.env("MRLOCK_REPORT", "stderr"));
    assert_eq!(outcome.stdout, "0\ndone\n");
    assert_eq!(outcome.stderr, "");
}

/// Each failing look-up of the loader allocates.
#[test]
fn a_process_without_verbs_allocates_nothing_at_start() {
    let outcome = same_with_and_without(&client("heap"));
    assert_eq!(outcome.stdout, "0 bytes of heap\n");
}

/// Which file standard error is has to be known later, when the process may have closed it: fstat(2) tells. Nothing else is asked.
#[test]
fn a_process_without_verbs_makes_one_system_call_at_start() {
    needs!("strace", machine::program("strace", "strace"));
    let preload = format!("LD_PRELOAD={}", library().display());
    let client = fixtures().join("clients/heap");
    let calls = |options: &[&str]| {
        let mut strace = Program::new("strace");
        for option in options {
            strace = strace.arg(option);
        }
        let trace = strace.arg(&client).run().succeeded("strace").stderr;
        // The loader's last one; and main's first one, after what libc does for the program before main.
        let (_, started) = trace.rsplit_once("munmap(").expect("the loader's cache");
        let (before_main, _) = started.split_once("/proc/self/stat").expect("main");
        let mut lines: Vec<_> = before_main.lines().skip(1).map(str::to_owned).collect();
        lines.pop();
        lines
    };
    assert_eq!(calls(&[]), [""; 0]);
    let ours = calls(&["-E", &preload]);
    let [call] = &ours[..] else {
        panic!("{ours:#?}")
    };
    assert!(call.contains("stat(2, "), "{call}");
}

/// Each page that is written to is a page fault in every process. The loader writes to two of ours, in front of the address space that
/// is zero at first; that may be one mapping with two pages of the loader's own.
#[test]
fn a_process_without_verbs_writes_to_few_pages() {
    let program = Program::new("cat").arg("/proc/self/smaps");
    let maps = program.preloaded().run().succeeded("cat").stdout;
    let [mut written, mut behind] = [0; 2];
    let (mut end_of_ours, mut is_ours, mut is_behind) = ("", false, false);
    for line in maps.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["Anonymous:", kib, "kB"] if is_ours => written += kib.parse::<u32>().expect("KiB"),
            ["Anonymous:", kib, "kB"] if is_behind => behind += kib.parse::<u32>().expect("KiB"),
            [range, _, _, _, _, ref file @ ..]
                if let Some((start, end)) = range.split_once('-') =>
            {
                is_behind = start == end_of_ours && file.is_empty();
                is_ours = file.iter().any(|file| file.ends_with("/libmrlock.so"));
                if is_ours {
                    end_of_ours = end;
                }
            }
            _ => {}
        }
    }
    assert!((1..=8).contains(&written), "{written} KiB:\n{maps}");
    assert!(behind <= 8, "{behind} KiB behind:\n{maps}");
}
