use super::*;
use penstock_plan::Rate;
use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, LocalSet};

/// `password`, by bcrypt at its cheapest.
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm";

/// The same, at once.
const QUICK: &str = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";

fn users(hash: &str, burst: u32) -> Arc<Users> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("penstock-users-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
    let path: PathBuf = std::env::temp_dir().join(name);
    fs::write(&path, format!("ada:{hash}\nbob:{hash}\n")).unwrap();
    let attempts = Rate { count: 1, per: Duration::from_secs(3600), burst };
    let plan = Plan { htpasswd: Some(path.to_str().unwrap().into()), addon: None, realm: "test".into(), attempts };
    let built = Users::build(&plan, None, None, (&line(2), "users")).map_err(|fault| fault.message);
    fs::remove_file(&path).unwrap();
    built.unwrap()
}

fn login(user: &str, password: &str) -> Login {
    Login::new(user.as_bytes(), password.as_bytes()).unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn from(last: u8) -> Option<IpAddr> {
    Some([192, 0, 2, last].into())
}

#[test]
fn what_was_right_is_not_looked_at_again() {
    let users = users(HASH, 2);
    runtime().block_on(async {
        for _ in 0..1000 {
            assert_eq!(users.prove_by_file(&login("ada", "password"), from(1)).await, Ok(()));
        }
        assert_eq!(users.prove_by_file(&login("bob", "password"), None).await, Ok(()));
    });
    assert_eq!(users.checks.load(Relaxed), 2);
}

#[test]
fn guesses_are_few_for_each_client_and_the_right_one_is_none() {
    let users = users(HASH, 3);
    runtime().block_on(async {
        assert_eq!(users.prove_by_file(&login("ada", "password"), from(1)).await, Ok(()));
        let mut answers = Vec::new();
        for number in 0..100 {
            // Of a user or not: there is no difference.
            let user = if number % 2 == 0 { "ada" } else { "eve" };
            answers.push(users.prove_by_file(&login(user, &format!("guess {number}")), from(1)).await);
        }
        assert!(answers[..3].iter().all(|answer| *answer == Err(Kind::UserRefused)));
        assert!(answers[3..].iter().all(|answer| *answer == Err(Kind::GuessRate)));
        assert_eq!(users.checks.load(Relaxed), 4);
        // Who is known goes on, and so does everybody who is elsewhere.
        assert_eq!(users.prove_by_file(&login("ada", "password"), from(1)).await, Ok(()));
        assert_eq!(users.prove_by_file(&login("bob", "password"), from(1)).await, Err(Kind::GuessRate));
        assert_eq!(users.prove_by_file(&login("bob", "password"), from(2)).await, Ok(()));
        // A password of somebody makes nobody somebody, and counts as a guess.
        for answer in [Kind::UserRefused, Kind::UserRefused, Kind::UserRefused, Kind::GuessRate] {
            assert_eq!(users.prove_by_file(&login("eve", "password"), from(3)).await, Err(answer));
        }
    });
}

#[test]
fn many_who_ask_the_same_at_once_ask_once() {
    let users = users(HASH, 1);
    // Nobody has an answer before all have asked: who asks behind an answer that was no asks anew.
    let held = Arc::clone(&users.line).try_acquire_owned().unwrap();
    let asking = Rc::new(Cell::new(0));
    let together = LocalSet::new();
    together.block_on(&runtime(), async {
        let mut tasks = JoinSet::new();
        for number in 0..200 {
            let (users, asking, right) = (Arc::clone(&users), Rc::clone(&asking), number % 2 == 0);
            let password = if right { "password" } else { "wrong" };
            tasks.spawn_local(async move {
                asking.set(asking.get() + 1);
                (right, users.prove_by_file(&login("ada", password), from(u8::from(right))).await)
            });
        }
        while asking.get() < 200 {
            tokio::task::yield_now().await;
        }
        drop(held);
        while let Some(answer) = tasks.join_next().await {
            let (right, answer) = answer.unwrap();
            assert_eq!(answer, if right { Ok(()) } else { Err(Kind::UserRefused) });
        }
    });
    assert_eq!(users.checks.load(Relaxed), 2);
    assert!(users.asked.lock().unwrap().is_empty());
}

#[test]
fn there_are_places_for_so_many_and_one_that_goes_away_frees_its_own() {
    let users = users(QUICK, 1000);
    let held = Arc::clone(&users.line).try_acquire_owned().unwrap();
    let together = LocalSet::new();
    together.block_on(&runtime(), async {
        let ask = |number: usize| {
            let users = Arc::clone(&users);
            tokio::task::spawn_local(async move { users.prove_by_file(&login("ada", &number.to_string()), None).await })
        };
        let waiting: Vec<_> = (0..MOST_WAITING).map(ask).collect();
        while users.asked.lock().unwrap().len() < MOST_WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(users.prove_by_file(&login("ada", "password"), None).await, Err(Kind::UsersBusy));
        // Somebody who asks what another asks needs no place, and takes it over.
        let same = ask(0);
        tokio::task::yield_now().await;
        waiting[0].abort();
        tokio::task::yield_now().await;
        drop(held);
        assert_eq!(same.await.unwrap(), Err(Kind::UserRefused));
        for task in waiting.into_iter().skip(1) {
            assert_eq!(task.await.unwrap(), Err(Kind::UserRefused));
        }
        assert_eq!(users.prove_by_file(&login("ada", "password"), None).await, Ok(()));
    });
}

#[test]
fn a_user_whose_hash_is_another_is_looked_at_anew() {
    let users = users(HASH, 10);
    runtime().block_on(async {
        assert_eq!(users.prove_by_file(&login("ada", "password"), None).await, Ok(()));
        users.known.store(Arc::new(Known::read(b"ada:{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").ok().unwrap()));
        assert_eq!(users.prove_by_file(&login("ada", "password"), None).await, Err(Kind::UserRefused));
        // She was right once, and with this hash.
        users.known.store(Arc::new(Known::read(format!("bob:{HASH}\n").as_bytes()).ok().unwrap()));
        assert_eq!(users.prove_by_file(&login("ada", "password"), None).await, Err(Kind::UserRefused));
        users.known.store(Arc::new(Known::default()));
        assert_eq!(users.prove_by_file(&login("ada", "password"), None).await, Err(Kind::UserRefused));
    });
}
