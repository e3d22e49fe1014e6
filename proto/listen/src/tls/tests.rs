use std::fs;
use std::process::Command;

use millstream_test_support::{Authority, Issued};
use tempfile::TempDir;

use super::*;

fn files(folder: &TempDir) -> PemFiles {
    let path = |flag, name: &str| PemFile { flag, path: folder.path().join(name) };
    PemFiles { certificates: path("--tls-cert", "cert.pem"), key: path("--tls-key", "key.pem") }
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(millstream_clock::unix_ms()))
}

fn written(issued: &Issued) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    issued.write(folder.path()).unwrap();
    folder
}

#[test]
fn each_fault_names_the_flag_and_the_file() {
    let authority = Authority::new("a");
    let (one, other) = (authority.issue(), authority.issue());
    let cut = one.certificate.replace("-----END CERTIFICATE-----", "");
    let table: [(&str, Option<&str>, Option<&str>, &str); 8] = [
        (
            "no certificate file",
            None,
            Some(&one.key),
            "--tls-cert `{}/cert.pem` cannot be read: No such file",
        ),
        ("no key file", Some(&one.certificate), None, "--tls-key `{}/key.pem` cannot be read: No such file"),
        ("not PEM", Some("hello"), Some(&one.key), "--tls-cert `{}/cert.pem` has no certificate"),
        ("a cut one", Some(&cut), Some(&one.key), "--tls-cert `{}/cert.pem` is not PEM"),
        (
            "key for certificate",
            Some(&one.key),
            Some(&one.key),
            "--tls-cert `{}/cert.pem` has no certificate",
        ),
        (
            "certificate for key",
            Some(&one.certificate),
            Some(&one.certificate),
            "--tls-key `{}/key.pem` has no private key",
        ),
        (
            "another key",
            Some(&one.certificate),
            Some(&other.key),
            "--tls-key `{}/key.pem` does not belong to the first certificate of --tls-cert `{}/cert.pem`",
        ),
        ("both are right", Some(&one.certificate), Some(&one.key), ""),
    ];
    for (name, certificate, key, expected) in table {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in [("cert.pem", certificate), ("key.pem", key)] {
            if let Some(text) = text {
                fs::write(folder.path().join(file), text).unwrap();
            }
        }
        let found = load(&files(&folder), HTTP, now()).map_err(|error| error.to_string());
        let expected = expected.replace("{}", &folder.path().display().to_string());
        match found {
            Ok(_) => assert_eq!(expected, "", "{name}"),
            Err(error) => assert!(!expected.is_empty() && error.starts_with(&expected), "{name}: {error}"),
        }
    }
}

#[test]
fn whether_a_certificate_is_valid_now_is_known() {
    let authority = Authority::new("a");
    let of =
        |from, to| load(&files(&written(&authority.issue_between(from, to))), HTTP, now()).unwrap().validity;
    assert_eq!(of(2020, 2099), Validity::Valid);
    assert_eq!(of(2020, 2021), Validity::Expired);
    assert_eq!(of(2098, 2099), Validity::NotYet);
}

#[test]
fn keys_of_all_forms_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let forms = [
        "openssl ecparam -genkey -name prime256v1 -out key.pem",
        "openssl genrsa -traditional -out key.pem 2048",
        "openssl genpkey -algorithm ed25519 -out key.pem",
    ];
    for make in forms {
        let line =
            format!("{make} && openssl req -x509 -key key.pem -subj /CN=localhost -days 9 -out cert.pem");
        let made = Command::new("sh").args(["-c", &line]).current_dir(folder.path()).output().unwrap();
        if !made.status.success() {
            eprintln!("skipped: `{line}` does not run here");
            return;
        }
        let loaded = load(&files(&folder), HTTP, now());
        assert_eq!(
            loaded.map(|loaded| loaded.validity).map_err(|error| error.to_string()),
            Ok(Validity::Valid)
        );
    }
}

#[test]
fn a_new_certificate_is_taken_and_a_broken_one_is_not() {
    let authority = Authority::new("a");
    let folder = written(&authority.issue());
    let certificate = ServerCertificate::load(files(&folder), HTTP).unwrap();
    let mut watch = certificate.watch.try_lock().unwrap();
    let mut look = || {
        let before = certificate.shared.config.lock().clone();
        certificate.shared.look(&mut watch.stamps);
        !Arc::ptr_eq(&before, &certificate.shared.config.lock())
    };
    assert!(!look(), "nothing has changed");
    authority.issue().write(folder.path()).unwrap();
    assert!(look());
    assert!(!look());
    let next = authority.issue();
    fs::write(folder.path().join("cert.pem"), &next.certificate).unwrap();
    assert!(!look(), "the key is still the old one");
    fs::remove_file(folder.path().join("key.pem")).unwrap();
    assert!(!look());
    fs::write(folder.path().join("key.pem"), &next.key).unwrap();
    assert!(look(), "both belong together again");
}

#[tokio::test]
async fn files_are_looked_at_once_a_second_and_by_one_caller() {
    let authority = Authority::new("a");
    let folder = written(&authority.issue());
    let certificate = ServerCertificate::load(files(&folder), HTTP).unwrap();
    let first = certificate.current().await;
    authority.issue().write(folder.path()).unwrap();
    assert!(Arc::ptr_eq(&first, &certificate.current().await), "a second has not passed");
    certificate.watch.lock().await.looked_at -= LOOK_INTERVAL;
    let held = certificate.watch.clone().lock_owned().await;
    assert!(Arc::ptr_eq(&first, &certificate.current().await), "somebody else looks");
    drop(held);
    assert!(!Arc::ptr_eq(&first, &certificate.current().await));
}
