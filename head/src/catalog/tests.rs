//! The catalog on an embedded store: what is stored and read again, who is told of it, and what becomes of a change whose
//! commit gets lost before or after it was written.

use millstream_core::desired::{Compiled, Outcome, Verdict, keys, rollout};
use millstream_proto::key::KeyRequest;

use super::*;
use crate::leadership::election::testing::{lead, take_over};
use crate::store::embedded::EmbeddedStore;
use crate::store::faulty::{Fault, Faulty};
use crate::store::{Expected, Guard};

const PATIENCE: Duration = Duration::from_secs(20);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A pipeline whose text differs by a comment.
fn candidate(comment: &str) -> Candidate {
    let source = format!("# {comment}\nname = \"p\"\n[deployments.model]\nengine = \"echo\"\n");
    let compiled = Compiled::from_text("p.toml", &source).unwrap();
    Candidate { file_name: "p.toml".into(), source, source_dir: "/".into(), compiled }
}

fn key<'a>(name: &'a str, byte: u8) -> impl Fn(&Keys) -> Result<(Keys, Name), Refusal> + 'a {
    move |keys| keys::create(keys, name, &[byte; 32], &KeyRequest::default(), 5)
}

fn model() -> FullName {
    "p/model".parse().unwrap()
}

/// A store that can break, and that its head leads.
struct Bed {
    faulty: Arc<Faulty>,
    store: Arc<Fenced>,
    _dir: tempfile::TempDir,
}

impl Bed {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let embedded: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path()).unwrap());
        let faulty = Arc::new(Faulty::new(embedded));
        let store: Arc<dyn Store> = faulty.clone();
        let store = Arc::new(lead(&store).await);
        Self { faulty, store, _dir: dir }
    }

    async fn catalog(&self) -> Catalog {
        Catalog::load(Arc::clone(&self.store)).await.unwrap()
    }

    async fn num_keys(&self, prefix: &str) -> usize {
        self.store.list(&[prefix]).await.unwrap().entries.len()
    }

    async fn put(&self, key: &str, value: &str) {
        self.store.commit(Write::put(key, Expected::Any, value).into()).await.unwrap();
    }
}

impl Catalog {
    async fn deploys(&self, comment: &str) -> (u64, bool) {
        let deployed = self.deploy(&[candidate(comment)], Takeover::ROLLING, 1, |_| {}).await.unwrap();
        (deployed[0].revision, deployed[0].is_new)
    }

    async fn completes(&self, revision: u64) {
        let complete = |desired: &mut Desired| {
            // Once it has taken over, and once it is no longer watched.
            rollout::complete(desired, &name("p"), revision);
            rollout::complete(desired, &name("p"), revision);
            Ok(())
        };
        self.change_rollout(complete, |_| {}).await.unwrap();
    }
}

#[tokio::test]
async fn only_the_last_revisions_stay_in_the_store_and_numbers_survive_a_delete() {
    let bed = Bed::new().await;
    let catalog = bed.catalog().await;
    for n in 1..=12 {
        assert_eq!(catalog.deploys(&n.to_string()).await, (n, true));
        catalog.completes(n).await;
    }
    assert!(!catalog.deploys("12").await.1);
    assert_eq!(bed.num_keys("revisions/").await, 10);
    let loaded = bed.catalog().await.desired();
    assert_eq!(*loaded, *catalog.desired(), "what is read is what was stored, its generation too");
    assert_eq!((loaded.pipelines[&name("p")].newest, loaded.pipelines[&name("p")].revisions.len()), (12, 10));
    catalog.delete(&name("p"), 1, |_| {}).await.unwrap();
    assert_eq!(bed.num_keys("revisions/").await, 0);
    assert_eq!(bed.catalog().await.deploys("1").await, (13, true));
}

#[tokio::test]
async fn a_change_by_somebody_else_is_read_before_the_next_one() {
    let bed = Bed::new().await;
    let (one, other) = (bed.catalog().await, bed.catalog().await);
    assert_eq!(one.deploys("a").await.0, 1);
    assert_eq!(other.deploys("b").await.0, 2);
    assert_eq!(one.deploys("c").await.0, 3);
    other.scale(&model(), ScaleRequest::Bounds(Some(2), Some(5))).await.unwrap();
    let (a, ..) = one.change_keys(key("a", 1), |_| {}).await.unwrap();
    assert_eq!(one.desired().scales.len(), 1, "a change of one thing brings the news of the others");
    other.change_keys(key("b", 2), |_| {}).await.unwrap();
    assert_eq!(other.desired().keys.by_name[&a].tenant, 1);
}

#[tokio::test]
async fn what_somebody_else_changed_is_published_also_when_it_makes_a_change_refused() {
    let bed = Bed::new().await;
    let one = bed.catalog().await;
    one.deploys("a").await;
    let other = bed.catalog().await;
    let mut seen = one.subscribe();
    seen.mark_unchanged();
    other.delete(&name("p"), 1, |_| {}).await.unwrap();
    let refused = one.scale(&model(), ScaleRequest::Bounds(Some(2), Some(5))).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::NoDeployment(_)))));
    assert!(seen.has_changed().unwrap());
    assert!(seen.borrow().pipelines.is_empty());
}

#[tokio::test]
async fn bounds_that_people_set_are_stored_and_leave_with_their_pipeline() {
    let bed = Bed::new().await;
    let catalog = bed.catalog().await;
    catalog.deploys("a").await;
    let request = ScaleRequest::Bounds(Some(2), Some(5));
    assert!(catalog.scale(&model(), request).await.unwrap());
    assert!(!catalog.scale(&model(), request).await.unwrap(), "the same again changes nothing");
    let loaded = bed.catalog().await.desired();
    assert_eq!(*loaded, *catalog.desired());
    let newest = loaded.pipelines[&name("p")].wanted().unwrap();
    assert_eq!(newest.spec(&name("model")).unwrap().autoscaling.max_replicas, 5);
    assert!(catalog.scale(&model(), ScaleRequest::Reset).await.unwrap());
    assert_eq!(bed.num_keys("scales/").await, 0);
    catalog.scale(&model(), request).await.unwrap();
    catalog.delete(&name("p"), 1, |_| {}).await.unwrap();
    assert_eq!(bed.num_keys("scales/").await, 0);
}

#[tokio::test]
async fn keys_are_stored_and_a_deleted_ones_number_stays_used() {
    let bed = Bed::new().await;
    let (one, other) = (bed.catalog().await, bed.catalog().await);
    assert!(one.change_keys(key("a", 1), |_| {}).await.unwrap().1);
    let (b, ..) = other.change_keys(key("b", 2), |_| {}).await.unwrap();
    let asked = KeyRequest { rate_per_s: Some(0.5), ..Default::default() };
    assert!(one.change_keys(|keys| keys::set(keys, "a", &asked), |_| {}).await.unwrap().1);
    assert!(one.change_keys(|keys| keys::set(keys, "b", &asked), |_| {}).await.unwrap().1);
    assert!(!one.change_keys(|keys| keys::set(keys, "b", &asked), |_| {}).await.unwrap().1, "nothing new");
    let loaded = bed.catalog().await.desired();
    assert_eq!(loaded.keys, one.desired().keys);
    assert_eq!((loaded.keys.by_name.len(), loaded.keys.by_name[&b].tenant), (2, 2));
    assert_eq!(loaded.keys.by_name[&b].settings.rate_per_s, Some(0.5));
    one.change_keys(|keys| keys::delete(keys, "b"), |_| {}).await.unwrap();
    let third = bed.catalog().await;
    let (c, _) = third.change_keys(key("c", 3), |_| {}).await.unwrap();
    let desired = third.desired();
    assert_eq!(desired.keys.by_name[&c].tenant, 3);
}

#[tokio::test]
async fn a_store_of_an_earlier_version_is_read_and_changed() {
    let bed = Bed::new().await;
    bed.put("pipelines/p", r#"{"newest":1,"deleted":false}"#).await;
    bed.put("pipelines/q", r#"{"newest":4,"deleted":true}"#).await;
    let revision = r#"{"number":1,"file_name":"p.toml","source":"name = \"p\"\n[deployments.model]\nengine = \"echo\"\n",
        "source_dir":"/","created_at_ms":5,"reuses":{}}"#;
    bed.put("revisions/p/00000000000000000001", revision).await;
    bed.put("last_tenant", "7").await;
    let catalog = bed.catalog().await;
    let desired = catalog.desired();
    assert_eq!((desired.generation, desired.pipelines[&name("p")].wanted), (0, 1));
    assert_eq!((desired.deleted[&name("q")].newest, desired.keys.last_tenant), (4, 7));
    assert_eq!(catalog.deploys("a").await, (2, true));
    assert_eq!(*bed.catalog().await.desired(), *catalog.desired());
}

#[tokio::test]
async fn a_key_that_makes_no_sense_is_named() {
    let bed = Bed::new().await;
    bed.put("pipelines/p", "{").await;
    let Err(error) = Catalog::load(Arc::clone(&bed.store)).await else { panic!("read what is not JSON") };
    assert!(error.to_string().contains("`pipelines/p` cannot be read"), "{error}");
}

#[tokio::test]
async fn a_deploy_that_expects_another_revision_is_refused() {
    let bed = Bed::new().await;
    let (one, other) = (bed.catalog().await, bed.catalog().await);
    one.deploys("a").await;
    other.deploys("b").await;
    let deploy = async |expected| {
        one.deploy(&[candidate("c")], Takeover { expected: Some(expected), ..Takeover::ROLLING }, 1, |_| {})
            .await
    };
    let Err(Error::Refused(Refusal::NotNow(text))) = deploy(1).await else { panic!("undid a deploy") };
    assert!(text.contains("revision 2 is wanted by now"), "{text}");
    assert_eq!(deploy(2).await.unwrap()[0].revision, 3);
    one.delete(&name("p"), 1, |_| {}).await.unwrap();
    assert!(matches!(deploy(3).await, Err(Error::Refused(Refusal::NotFound(_)))));
}

#[tokio::test]
async fn a_head_that_leads_no_longer_changes_nothing() {
    let bed = Bed::new().await;
    let catalog = bed.catalog().await;
    let store: Arc<dyn Store> = bed.faulty.clone();
    let other = take_over(&store).await;
    let refused = catalog.deploy(&[candidate("a")], Takeover::ROLLING, 1, |_| {}).await;
    assert!(matches!(refused, Err(Error::Store(store::Error::NotLeading))));
    assert!(catalog.desired().pipelines.is_empty());
    assert_eq!(Catalog::load(Arc::new(other)).await.unwrap().deploys("a").await.0, 1);
}

/// A pipeline with more revisions and bounds than one commit can delete.
#[tokio::test]
async fn a_change_that_is_too_large_for_one_commit_takes_several() {
    let bed = Bed::new().await;
    let mut source = "name = \"p\"\n".to_owned();
    (0..150).for_each(|n| source += &format!("[deployments.d{n}]\nengine = \"echo\"\n"));
    let compiled = Compiled::from_text("p.toml", &source).unwrap();
    let candidate = Candidate { file_name: "p.toml".into(), source, source_dir: "/".into(), compiled };
    let catalog = bed.catalog().await;
    catalog.deploy(&[candidate], Takeover::ROLLING, 1, |_| {}).await.unwrap();
    for n in 0..150 {
        let name = format!("p/d{n}").parse().unwrap();
        catalog.scale(&name, ScaleRequest::Bounds(Some(2), Some(5))).await.unwrap();
    }
    bed.faulty.break_commits([Fault::None, Fault::Lost, Fault::Lost]);
    assert!(catalog.delete(&name("p"), 1, |_| {}).await.is_err());
    catalog.delete(&name("p"), 1, |_| {}).await.unwrap();
    assert_eq!(bed.num_keys("scales/").await + bed.num_keys("revisions/").await, 0);
    assert_eq!(*bed.catalog().await.desired(), *catalog.desired());
}

/// Every kind of change, in an order in which each follows from the ones before.
const CHANGES: [&str; 9] =
    ["deploy", "scale", "canary", "promote", "abort", "create key", "set key", "delete key", "delete"];

/// Makes a change; returns whether anything is new, where that is told.
async fn make(catalog: &Catalog, change: &str) -> Result<bool, Error> {
    let p = name("p");
    let rollout = async |change: &dyn Fn(&mut Desired) -> Result<(), Refusal>| {
        catalog.change_rollout(change, |_| {}).await.map(|_| true)
    };
    let asked = KeyRequest { rate_per_s: Some(0.5), ..Default::default() };
    match change {
        "deploy" => {
            let deployed = catalog.deploy(&[candidate("1")], Takeover::ROLLING, 1, |_| {}).await;
            deployed.map(|stored| stored == [Stored { revision: 1, is_new: true }])
        }
        "scale" => Ok(catalog.scale(&model(), ScaleRequest::Bounds(Some(2), Some(5))).await?),
        "canary" => {
            let mode = Mode::Canary { permille: 100 };
            let deployed = catalog
                .deploy(&[candidate("2")], Takeover { mode: Some(mode), expected: Some(1) }, 1, |_| {})
                .await;
            deployed.map(|stored| stored == [Stored { revision: 2, is_new: true }])
        }
        "promote" => rollout(&|desired| rollout::promote(desired, &p).map(drop)).await,
        "abort" => {
            rollout(&|desired| {
                let (revision, to) = rollout::abortable(desired, &p)?;
                let verdict = Verdict { outcome: Outcome::Aborted, reason: "by hand".into(), at_ms: 1 };
                rollout::go_back(desired, &p, revision, to, verdict);
                Ok(())
            })
            .await
        }
        "create key" => Ok(catalog.change_keys(key("a", 1), |_| {}).await?.1),
        "set key" => Ok(catalog.change_keys(|keys| keys::set(keys, "a", &asked), |_| {}).await?.1),
        "delete key" => Ok(catalog.change_keys(|keys| keys::delete(keys, "a"), |_| {}).await?.1),
        _ => catalog.delete(&p, 1, |_| {}).await.map(|_| true),
    }
}

/// What the store holds is what is known and published.
async fn expect_in_step(bed: &Bed, catalog: &Catalog, what: &str) {
    let stored = bed.catalog().await.desired();
    assert_eq!(
        *catalog.desired(),
        *stored,
        "after `{what}` the store holds something else than what is known"
    );
    assert_eq!(**catalog.subscribe().borrow(), *stored, "after `{what}` something else was published");
}

#[tokio::test]
async fn a_commit_that_gets_lost_is_found_out_within_the_same_change() {
    for fault in [Fault::Written, Fault::Lost] {
        let bed = Bed::new().await;
        let catalog = bed.catalog().await;
        for change in CHANGES {
            bed.faulty.break_commits([fault]);
            let outcome = make(&catalog, change).await;
            assert!(matches!(outcome, Ok(true)), "`{change}`, {fault:?}: {outcome:?}");
            expect_in_step(&bed, &catalog, change).await;
        }
    }
}

#[tokio::test]
async fn a_change_whose_outcome_stays_unknown_is_seen_and_answered_when_it_is_asked_for_again() {
    let bed = Bed::new().await;
    let catalog = bed.catalog().await;
    for change in CHANGES {
        let before = catalog.desired();
        bed.faulty.break_commits([Fault::Written]);
        bed.faulty.break_reads(1);
        let outcome = make(&catalog, change).await;
        assert!(matches!(outcome, Err(Error::Store(store::Error::Unknown(_)))), "`{change}`: {outcome:?}");
        assert_eq!(*catalog.desired(), *before);
        let again = make(&catalog, change).await;
        assert!(matches!(again, Ok(true)), "`{change}` again: {again:?}");
        expect_in_step(&bed, &catalog, change).await;
    }
}

#[tokio::test]
async fn a_change_after_an_unknown_one_follows_from_what_was_stored() {
    let bed = Bed::new().await;
    let catalog = bed.catalog().await;
    catalog.deploys("a").await;
    bed.faulty.break_commits([Fault::Written]);
    bed.faulty.break_reads(1);
    assert!(catalog.deploy(&[candidate("b")], Takeover::ROLLING, 1, |_| {}).await.is_err());
    assert_eq!(catalog.deploys("c").await, (3, true), "another text is another change");
    expect_in_step(&bed, &catalog, "deploy").await;
}

#[tokio::test]
async fn a_change_whose_asker_leaves_is_found_out_by_the_next_one() {
    let bed = Bed::new().await;
    let catalog = bed.catalog().await;
    bed.faulty.break_commits([Fault::WrittenThenHangs]);
    let left = tokio::time::timeout(Duration::from_millis(300), catalog.deploys("a")).await;
    assert!(left.is_err());
    catalog.scale(&model(), ScaleRequest::Bounds(Some(2), Some(5))).await.expect("the pipeline is there");
    assert_eq!(catalog.deploys("b").await, (2, true));
    expect_in_step(&bed, &catalog, "deploy").await;
}

#[tokio::test]
async fn readers_do_not_wait_for_a_commit() {
    let bed = Bed::new().await;
    let catalog = bed.catalog().await;
    bed.faulty.break_commits([Fault::Hangs]);
    let mut deploy = std::pin::pin!(catalog.deploys("a"));
    let hangs = tokio::time::timeout(Duration::from_millis(50), &mut deploy).await;
    assert!(hangs.is_err());
    assert!(catalog.desired().pipelines.is_empty());
}

#[tokio::test]
async fn what_is_stored_by_others_or_late_is_published_without_a_change() {
    let bed = Bed::new().await;
    let (one, other) = (bed.catalog().await, bed.catalog().await);
    let mut seen = one.subscribe();
    let expect = async |seen: &mut watch::Receiver<Arc<Desired>>, newest: u64| {
        let is_there = |desired: &Arc<Desired>| {
            desired.pipelines.get(&name("p")).is_some_and(|pipeline| pipeline.newest == newest)
        };
        tokio::time::timeout(PATIENCE, seen.wait_for(is_there)).await.expect("it is published").unwrap();
    };
    let play = async {
        other.deploys("a").await;
        expect(&mut seen, 1).await;
        assert_eq!(one.deploys("b").await, (2, true));
        bed.faulty.break_commits([Fault::Written]);
        bed.faulty.break_reads(1);
        assert!(one.deploy(&[candidate("c")], Takeover::ROLLING, 1, |_| {}).await.is_err());
        expect(&mut seen, 3).await;
    };
    tokio::select! {
        () = one.follow() => unreachable!("the store is open"),
        () = play => {}
    }
}

#[test]
fn deletes_come_first_and_the_parts_of_a_large_change_fit() {
    let writes: Vec<_> = (0..300)
        .map(|n| Write::delete(n.to_string(), Expected::Any))
        .chain([Write::put("p", Expected::Any, "")])
        .collect();
    let batches = batches(writes);
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [126, 126, 49]);
    assert!(batches[2].last().unwrap().value.is_some());
    for mut batch in batches {
        batch.push(stored::generation(1));
        let guards = vec![Guard::new("leader", Expected::Version(1))];
        Txn { guards, writes: batch }.check().unwrap();
    }
}
