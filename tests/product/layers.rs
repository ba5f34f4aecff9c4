//! Imports run one way: ARCHITECTURE.md's table of layers is what the `use` lines of `src` keep to.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The layers, the top one first: a file of `src`, or a folder.
fn layers(root: &Path) -> Vec<String> {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let table = text.split_once("## The layers").expect("a section").1;
    let rows = table
        .lines()
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(layer, _)| layer.to_owned()).collect()
}

/// Every Rust file below `folder`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// The modules that `source` names behind `crate::`, also in the braces of a `use`.
fn imported(source: &str) -> Vec<&str> {
    let mut modules = Vec::new();
    for (at, _) in source.match_indices("crate::") {
        let rest = &source[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            modules.extend(first_word(rest));
            continue;
        };
        let mut depth = 0;
        let mut item = 0;
        for (index, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                '}' | ',' if depth == 0 => {
                    modules.extend(first_word(group[item..index].trim()));
                    item = index + 1;
                }
                _ => {}
            }
            if character == '}' && item == index + 1 {
                break;
            }
        }
    }
    modules
}

fn first_word(text: &str) -> Option<&str> {
    let end = text
        .find(|it: char| !it.is_alphanumeric() && it != '_')
        .unwrap_or(text.len());
    Some(&text[..end]).filter(|word| !word.is_empty())
}

#[test]
fn no_file_imports_from_a_layer_above_its_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let layers = layers(root);
    let level = |name: &str| {
        let is_it = |layer: &String| layer.trim_end_matches('/').trim_end_matches(".rs") == name;
        layers.iter().position(is_it)
    };
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut imports = 0;
    for file in &files {
        let name = file.strip_prefix(root.join("src")).expect("below src");
        let top = name.iter().next().expect("a name").to_string_lossy();
        let own = level(top.trim_end_matches(".rs"));
        let own = own.unwrap_or_else(|| panic!("{top} is in no row of ARCHITECTURE.md's table"));
        let source = fs::read_to_string(file).expect("a source file");
        for module in imported(&source) {
            // What has no row is a macro, or an item of lib.rs.
            let Some(other) = level(module) else { continue };
            imports += 1;
            assert!(
                other >= own,
                "src/{} imports from {module}, a layer above its own",
                name.display()
            );
        }
    }
    assert!(imports > 20, "only {imports} imports were found");
}

#[test]
fn the_modules_of_a_use_are_found() {
    let source =
        "use crate::{\n    base::{sys, text},\n    lock,\n};\nuse crate::hook::verbs; crate::api";
    assert_eq!(imported(source), ["base", "lock", "hook", "api"]);
}
