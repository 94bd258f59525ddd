//! Checks that no two modules need each other.
//!
//! A module and its children are one idea in several files, so a child may use what its ancestors define. A
//! name that a module re-exports counts as the module's that defines it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::rust_files;

type Module = Vec<String>;

/// The modules of a source tree, with what each imports.
struct Tree {
    /// The text of each, without comments and unit tests.
    text: BTreeMap<Module, String>,
    /// What each re-exports: where a name comes from.
    reexports: BTreeMap<(Module, String), Vec<String>>,
}

impl Tree {
    fn read(src: &Path) -> Self {
        let mut files = Vec::new();
        rust_files(src, &mut files);
        let mut text = BTreeMap::new();
        for file in files {
            let relative = file.strip_prefix(src).unwrap().with_extension("");
            let parts = relative.iter().map(|part| part.to_str().unwrap());
            let module: Module = parts.filter(|it| *it != "mod").map(str::to_owned).collect();
            if module.iter().any(|part| part == "tests") {
                continue;
            }
            let code = fs::read_to_string(&file).unwrap();
            let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let lines = code.lines().map(|line| line.split("//").next().unwrap());
            text.insert(module, lines.collect::<Vec<_>>().join("\n"));
        }
        let mut tree = Self {
            text,
            reexports: BTreeMap::new(),
        };
        for module in tree.text.keys().cloned().collect::<Vec<_>>() {
            for path in tree.imports(&module, true) {
                let name = path.last().unwrap().clone();
                tree.reexports.insert((module.clone(), name), path);
            }
        }
        tree
    }

    /// The paths that a module imports, or re-exports, from the root of the crate.
    fn imports(&self, module: &Module, public: bool) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for statement in self.text[module].split(';') {
            let Some((before, paths)) = statement.rsplit_once("use ") else {
                continue;
            };
            let before = before.rsplit(['}', ']', '\n']).next().unwrap();
            if before.trim_start().starts_with("pub") == public {
                let paths: String = paths.split_whitespace().collect::<Vec<_>>().join(" ");
                let whole = expand(&paths).into_iter();
                found.extend(whole.filter_map(|path| self.absolute(module, &path)));
            }
        }
        found
    }

    fn absolute(&self, module: &Module, path: &str) -> Option<Vec<String>> {
        let mut parts: Vec<_> = path.split("::").map(str::to_owned).collect();
        let mut base = match parts[0].as_str() {
            "crate" => return Some(parts.split_off(1)),
            "super" | "self" => module.clone(),
            child
                if self
                    .text
                    .contains_key(&[&module[..], &[child.to_owned()]].concat()) =>
            {
                module.clone()
            }
            _ => return None,
        };
        while parts.first().is_some_and(|it| it == "super") {
            base.pop();
            parts.remove(0);
        }
        parts.retain(|it| it != "self");
        Some([base, parts].concat())
    }

    /// The module that defines what a path names.
    fn definer(&self, path: &[String]) -> Option<Module> {
        let is_module = |length: &usize| self.text.contains_key(&path[..*length]);
        let length = (1..=path.len()).rev().find(is_module)?;
        let module = path[..length].to_vec();
        let name = path.get(length);
        let from = name.and_then(|name| self.reexports.get(&(module.clone(), name.clone())));
        match from {
            Some(from) if from != path => self.definer(&[from, &path[length + 1..]].concat()),
            _ => Some(module),
        }
    }

    /// The modules that a module needs, other than its ancestors.
    fn needs(&self, module: &Module) -> BTreeSet<Module> {
        let imports = self.imports(module, false).into_iter();
        let defined = imports.filter_map(|path| self.definer(&path));
        defined.filter(|it| !module.starts_with(it)).collect()
    }
}

/// The paths of a `use` statement: `a::{b, c::{d, e}}` has three.
fn expand(paths: &str) -> Vec<String> {
    let Some((prefix, list)) = paths.split_once('{') else {
        let path = paths.split(" as ").next().unwrap();
        return vec![path.trim().to_owned()];
    };
    let mut found = Vec::new();
    let (mut depth, mut item) = (0, String::new());
    for character in list.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                let paths = expand(&std::mem::take(&mut item)).into_iter();
                let named = paths.filter(|path| !path.is_empty());
                found.extend(named.map(|path| format!("{}{path}", prefix.trim())));
                continue;
            }
            _ => {}
        }
        item.push(character);
    }
    found
}

/// The modules that need themselves over others.
fn circles(src: &Path) -> Vec<String> {
    let tree = Tree::read(src);
    assert!(tree.text.len() > 1, "no modules below {}", src.display());
    let mut needs: BTreeMap<_, _> = tree.text.keys().map(|it| (it, tree.needs(it))).collect();
    // What needs nothing that is left is in no circle, and what nobody needs neither.
    loop {
        let left: BTreeSet<Module> = needs.keys().map(|it| (*it).clone()).collect();
        let needed: BTreeSet<Module> = needs.values().flatten().cloned().collect();
        needs.retain(|module, of_it| {
            of_it.retain(|it| left.contains(it));
            !of_it.is_empty() && needed.contains(*module)
        });
        if needs.len() == left.len() {
            break;
        }
    }
    let name = |module: &Module| module.join("::");
    let line = |(module, of_it): (&Module, BTreeSet<Module>)| {
        let of_it: Vec<_> = of_it.iter().map(name).collect();
        format!("{} needs {}", name(module), of_it.join(", "))
    };
    needs.into_iter().map(line).collect()
}

#[test]
fn no_two_modules_need_each_other() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert_eq!(circles(&src), Vec::<String>::new());
}

#[test]
fn a_circle_is_found_also_over_a_re_export() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("lower")).unwrap();
    write(
        "lower/mod.rs",
        "mod deep;\npub use deep::Deep;\npub struct Low;\n",
    );
    write(
        "lower/deep.rs",
        "use super::Low;\n\npub struct Deep(Low);\n",
    );
    write("upper.rs", "use crate::lower::{self, Deep as D};\n");
    assert_eq!(circles(folder.path()), Vec::<String>::new());
    write(
        "lower/deep.rs",
        "use super::Low;\nuse crate::{upper::Up};\n",
    );
    assert_eq!(
        circles(folder.path()),
        ["lower::deep needs upper", "upper needs lower::deep"]
    );
}
