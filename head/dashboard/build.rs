//! Has the files of the site looked at again when one comes, goes or changes: the macro that includes them cannot ask for that.

fn main() {
    println!("cargo:rerun-if-changed=site");
}
