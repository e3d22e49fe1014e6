//! Rules about watches: order, resumption, gaps.

use super::Subject;
use crate::store::{Change, Expected, Guard, Store, Txn, WatchEvent, Write};

fn changed(version: u64, changes: &[(&str, Option<&str>)]) -> WatchEvent {
    let change = |&(key, value): &(&str, Option<&str>)| Change {
        key: key.into(),
        value: value.map(|value| value.as_bytes().to_vec()),
    };
    WatchEvent::Changed { version, changes: changes.iter().map(change).collect() }
}

pub(super) async fn order_and_resumption(subject: &Subject<'_, impl Store>) {
    let before = subject.version().await;
    let first = subject.put(Write::put("suite/p/a", Expected::Absent, "1")).await;
    let mut all = subject.follow("suite/p/", before).await;
    assert_eq!(
        all.next().await,
        changed(first, &[("suite/p/a", Some("1"))]),
        "a watch resumes from a version"
    );
    let mut later = subject.follow("suite/p/", first).await;
    subject.put(Write::put("suite/q/other", Expected::Absent, "1")).await;
    let second = subject
        .commit(vec![
            Write::put("suite/p/b", Expected::Absent, "2"),
            Write::put("suite/q/other", Expected::Any, "2"),
            Write::put("suite/p/a", Expected::Version(first), "2"),
        ])
        .await;
    let third = subject.put(Write::delete("suite/p/a", Expected::Any)).await;
    for follower in [&mut all, &mut later] {
        let together = [("suite/p/b", Some("2")), ("suite/p/a", Some("2"))];
        assert_eq!(
            follower.next().await,
            changed(second, &together),
            "only the prefix, a commit in one piece"
        );
        assert_eq!(follower.next().await, changed(third, &[("suite/p/a", None)]), "a deletion is seen");
    }
    let refused = subject.try_commit(Write::put("suite/p/b", Expected::Version(first), "x")).await;
    assert!(refused.is_err());
    let guards = vec![Guard::new("suite/p/b", Expected::Version(second))];
    let fourth = Txn { guards, writes: vec![Write::put("suite/p/c", Expected::Absent, "3")] };
    let fourth = subject.commit(fourth).await;
    let seen = changed(fourth, &[("suite/p/c", Some("3"))]);
    assert_eq!(all.next().await, seen, "neither a refused commit nor a guard is seen");
    let mut again = subject.follow("suite/p/", second).await;
    assert_eq!(again.next().await, changed(third, &[("suite/p/a", None)]), "a watch may begin anywhere");
    assert_eq!(again.next().await, seen);
}

pub(super) async fn an_old_version_gives_all_or_a_gap(subject: &Subject<'_, impl Store>) {
    let mut versions = Vec::new();
    for n in 0..20 {
        versions.push(subject.put(Write::put("suite/a", Expected::Any, n.to_string())).await);
    }
    let mut from_start = subject.follow("suite/", 0).await;
    for version in &versions {
        match from_start.next().await {
            WatchEvent::Changed { version: seen, .. } => assert_eq!(seen, *version, "nothing is left out"),
            WatchEvent::Gap => {
                assert_eq!(from_start.watch.next().await, None, "nothing follows a gap");
                break;
            }
            WatchEvent::Broken(reason) => panic!("the watch broke: {reason}"),
        }
    }
}
