//! tokio-postgres: a statement that is given as text is prepared under a name, executed in the next round trip and
//! closed when the program has let go of it, with a Sync of its own that nobody waits for. Futures that are polled
//! together are a pipeline in which each statement has its Sync.

mod harness;
mod session;
mod types;

use bytes::Bytes;
use futures_util::{future, SinkExt, TryStreamExt};
use harness::{cancel_until, fails, same, Failure, Mode, Outcome, Who, LARGE, ZONES};
use session::{settings, Params, Session, Statements};
use std::collections::VecDeque;
use tokio::sync::oneshot;
use tokio_postgres::{
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
    Client, GenericClient, Row, Statement,
};
use types::{nulls, types};

/// The steps in their order, each a function of its name.
macro_rules! steps {
    ($($name:ident)*) => {
        const STEPS: &[&str] = &[$(stringify!($name)),*];

        fn perform<'a>(step: &str, who: &'a Who, session: &'a mut Session) -> future::BoxFuture<'a, Outcome> {
            match step {
                $(stringify!($name) => Box::pin($name(who, session)),)*
                _ => unreachable!(),
            }
        }
    };
}

steps! {
    types nulls large error error_in_transaction transaction savepoint copy cancel reuse ddl deallocate many
    parameters reconnect pipeline tagged
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(harness::run(STEPS, perform))
}

async fn make_table(db: &Client, name: &str, columns: &str) -> Outcome {
    Ok(db.batch_execute(&format!("drop table if exists {0}; create table {0} ({1})", name, columns)).await?)
}

async fn drop_table(db: &Client, name: &str) -> Outcome {
    Ok(db.batch_execute(&format!("drop table {}", name)).await?)
}

async fn insert<C: GenericClient + Sync>(db: &C, table: &str, number: i32) -> Outcome {
    let text = format!("insert into {} values ($1)", table);
    same("rows inserted", 1, db.execute(&text, &[&number]).await?)
}

async fn large(who: &Who, session: &mut Session) -> Outcome {
    let text = who.tag.clone() + &"x".repeat(LARGE - who.tag.len());
    let data: Vec<u8> = (0..LARGE).map(|n| n as u8).collect();
    for _ in 0..2 {
        let row = session.row("select $1::text, $2::bytea", &[&text, &data]).await?;
        same("text", true, row.try_get::<_, &str>(0)? == text)?;
        same("bytea", true, row.try_get::<_, &[u8]>(1)? == data)?;
    }
    let size = LARGE as i32;
    let made = session.row("select repeat('z', $1::int)", &[&size]).await?;
    same("repeat", true, made.try_get::<_, &str>(0)? == "z".repeat(LARGE))
}

// Errors and transactions

async fn error(who: &Who, session: &mut Session) -> Outcome {
    for _ in 0..3 {
        fails("division", "22012", session.row("select 1 / $1::int", &[&0]).await)?;
        session.works(who).await?;
        let text = "select * from there_is_no_such_table where a = $1::int";
        fails("no such table", "42P01", session.row(text, &[&1]).await)?;
        session.works(who).await?;
        fails("syntax", "42601", session.row("selec 1", &[]).await)?;
        session.works(who).await?;
        fails("a simple query", "42601", session.db.batch_execute("selec 1").await.map_err(Failure::from))?;
        session.works(who).await?;
    }
    Ok(())
}

async fn error_in_transaction(who: &Who, session: &mut Session) -> Outcome {
    let table = who.named("err");
    make_table(&session.db, &table, "n int").await?;
    for _ in 0..3 {
        let Session { db, statements, .. } = session;
        let tx = db.transaction().await?;
        insert(&tx, &table, 1).await?;
        fails("division", "22012", statements.row(&tx, "select 1 / $1::int", &[&0]).await)?;
        fails("the next one", "25P02", statements.row(&tx, "select $1::text", &[&"x"]).await)?;
        tx.rollback().await?;
        session.works(who).await?;
        // Letting go of a transaction sends a ROLLBACK that nobody waits for.
        let tx = session.db.transaction().await?;
        insert(&tx, &table, 2).await?;
        drop(tx);
        session.works(who).await?;
    }
    session.expect("rows", "0", &format!("select count(*)::text from {}", table), &[]).await?;
    drop_table(&session.db, &table).await
}

async fn transaction(who: &Who, session: &mut Session) -> Outcome {
    let table = who.named("tx");
    make_table(&session.db, &table, "n int").await?;
    let other = Session::connect(who).await?;
    let count = format!("select count(*)::text from {}", table);
    for round in 1..=5 {
        let tx = session.db.transaction().await?;
        insert(&tx, &table, round).await?;
        tx.commit().await?;
        other.expect("after COMMIT", &round.to_string(), &count, &[]).await?;
        let tx = session.db.transaction().await?;
        insert(&tx, &table, -round).await?;
        tx.rollback().await?;
        other.expect("after ROLLBACK", &round.to_string(), &count, &[]).await?;
        portal(who, &mut session.db).await?;
    }
    other.close().await;
    drop_table(&session.db, &table).await
}

/// A named portal is read in parts, and closed when its transaction is over.
async fn portal(who: &Who, db: &mut Client) -> Outcome {
    let tx = db.transaction().await?;
    let portal = tx.bind("select $1::text || n from generate_series(1, 100) n", &[&who.tag]).await?;
    let mut got = Vec::new();
    for size in [30, 30, 30, 10, 0] {
        let rows = tx.query_portal(&portal, 30).await?;
        same("rows of a portal", size, rows.len())?;
        for row in rows {
            got.push(row.try_get::<_, String>(0)?);
        }
    }
    tx.commit().await?;
    same("all of a portal", (1..=100).map(|n| format!("{}{}", who.tag, n)).collect(), got)
}

async fn savepoint(who: &Who, session: &mut Session) -> Outcome {
    let table = who.named("sp");
    make_table(&session.db, &table, "n int primary key").await?;
    let mut tx = session.db.transaction().await?;
    insert(&tx, &table, 1).await?;
    let inner = tx.transaction().await?;
    fails("a second 1", "23505", insert(&inner, &table, 1).await)?;
    inner.rollback().await?;
    let inner = tx.transaction().await?;
    insert(&inner, &table, 2).await?;
    inner.commit().await?;
    tx.commit().await?;
    let text = format!("select string_agg(n::text, ',' order by n) from {}", table);
    session.expect("rows", "1,2", &text, &[]).await?;
    drop_table(&session.db, &table).await
}

async fn copy(who: &Who, session: &mut Session) -> Outcome {
    let table = who.named("copy");
    make_table(&session.db, &table, "n int, t text").await?;
    let lines: Vec<String> = (0..1000).map(|n| format!("{}\t{} {}\n", n, who.tag, n)).collect();
    let copy_in = format!("copy {} from stdin", table);
    for _ in 0..3 {
        same("rows in", 1000, copy_text(&session.db, &copy_in, &lines).await?)?;
        same("lines out", true, copied(&session.db, &table).await? == lines.concat().into_bytes())?;
        session.db.batch_execute(&format!("truncate {}", table)).await?;
        same("rows in, binary", 1000, copy_binary(&session.db, &copy_in, who).await?)?;
        same("lines out", true, copied(&session.db, &table).await? == lines.concat().into_bytes())?;
        session.db.batch_execute(&format!("truncate {}", table)).await?;
        let bad = ["1\tgood\n".to_string(), "bad\tbad\n".to_string()];
        fails("bad data", "22P02", copy_text(&session.db, &copy_in, &bad).await)?;
        session.works(who).await?;
        // A sink that is dropped gives up its COPY, and nobody waits for that.
        drop(session.db.copy_in::<_, Bytes>(&copy_in).await?);
        session.expect("rows", "0", &format!("select count(*)::text from {}", table), &[]).await?;
    }
    drop_table(&session.db, &table).await
}

async fn copy_text(db: &Client, sql: &str, lines: &[String]) -> Outcome<u64> {
    let mut sink = Box::pin(db.copy_in(sql).await?);
    for line in lines {
        sink.send(Bytes::from(line.clone())).await?;
    }
    Ok(sink.as_mut().finish().await?)
}

async fn copy_binary(db: &Client, sql: &str, who: &Who) -> Outcome<u64> {
    let sink = db.copy_in(&format!("{} (format binary)", sql)).await?;
    let mut writer = Box::pin(BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]));
    for n in 0..1000 {
        writer.as_mut().write(&[&n, &format!("{} {}", who.tag, n)]).await?;
    }
    Ok(writer.as_mut().finish().await?)
}

async fn copied(db: &Client, table: &str) -> Outcome<Vec<u8>> {
    let stream = db.copy_out(&format!("copy (select * from {} order by n) to stdout", table)).await?;
    Ok(stream.try_collect::<Vec<Bytes>>().await?.concat())
}

async fn cancel(who: &Who, session: &mut Session) -> Outcome {
    let canceler = session.canceler();
    let Session { db, statements, .. } = session;
    let tx = db.transaction().await?;
    same("before", 1, statements.value(&tx, "select $1::int", &[&1]).await?)?;
    let (end, ended) = oneshot::channel();
    let requests = tokio::spawn(cancel_until(canceler, ended));
    let slept = tx.query("select pg_sleep($1)", &[&60f64]).await;
    let _ = end.send(());
    requests.await.expect("it does not panic")?;
    fails("sleeping", "57014", slept.map_err(Failure::from))?;
    tx.rollback().await?;
    session.works(who).await
}

// Prepared statements

async fn reuse(who: &Who, session: &mut Session) -> Outcome {
    let statement = session.db.prepare("select $1::text || ':' || $2::int").await?;
    for n in 0..100 {
        if n % 5 != 0 {
            execution(who, &session.db, &statement, n).await?;
            continue;
        }
        let tx = session.db.transaction().await?;
        execution(who, &tx, &statement, n).await?;
        execution(who, &tx, &statement, -n).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn execution<C: GenericClient + Sync>(who: &Who, db: &C, statement: &Statement, number: i32) -> Outcome {
    let row = db.query_one(statement, &[&who.tag, &number]).await?;
    same("execution", format!("{}:{}", who.tag, number), row.try_get(0)?)
}

/// What the step ddl does to its table (id int, n int) with the row (1, 5), and the columns it has afterwards.
const CHANGES: [(&str, &[&str]); 3] = [
    ("add column t text default 'new'", &["int4 1", "int4 5", "text new"]),
    ("alter column n type bigint", &["int4 1", "int8 5", "text new"]),
    ("drop column t", &["int4 1", "int8 5"]),
];

async fn ddl(who: &Who, session: &mut Session) -> Outcome {
    let table = who.named("ddl");
    make_table(&session.db, &table, "id int, n int").await?;
    session.db.batch_execute(&format!("insert into {} values (1, 5)", table)).await?;
    let text = format!("select * from {} where id = $1", table);
    let mut columns: &[&str] = &["int4 1", "int4 5"];
    for (change, new) in CHANGES {
        for _ in 0..6 {
            same(&format!("before {}", change), strings(columns), table_row(session, &text).await?)?;
        }
        let other = Session::connect(who).await?;
        other.db.batch_execute(&format!("alter table {} {}", table, change)).await?;
        other.close().await;
        columns = new;
        if who.number % 2 == 0 {
            let Session { db, statements, .. } = session;
            let tx = db.transaction().await?;
            let row = statements.row(&tx, &text, &[&1]).await;
            changed(who, &format!("in a transaction after {}", change), columns, row)?;
            tx.rollback().await?;
        }
        for _ in 0..3 {
            let row = session.row(&text, &[&1]).await;
            changed(who, &format!("after {}", change), columns, row)?;
        }
        session.statements.forget(&text);
        same(&format!("prepared anew after {}", change), strings(columns), table_row(session, &text).await?)?;
    }
    drop_table(&session.db, &table).await
}

async fn table_row(session: &Session, text: &str) -> Outcome<Vec<String>> {
    columns_of(&session.row(text, &[&1]).await?)
}

fn strings(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| column.to_string()).collect()
}

/// Type and value of each column, as the driver has been told when the statement was prepared.
fn columns_of(row: &Row) -> Outcome<Vec<String>> {
    let mut columns = Vec::new();
    for (i, column) in row.columns().iter().enumerate() {
        let value = match *column.type_() {
            Type::INT4 => row.try_get::<_, i32>(i)?.to_string(),
            Type::INT8 => row.try_get::<_, i64>(i)?.to_string(),
            _ => row.try_get::<_, String>(i)?,
        };
        columns.push(format!("{} {}", column.type_().name(), value));
    }
    Ok(columns)
}

/// The table is another one than before: who prepares anew gets its new row, who has kept the statement gets the error
/// of PostgreSQL. He cannot get the row, because the driver would read it by the columns that it was told of before.
fn changed(who: &Who, when: &str, columns: &[&str], row: Outcome<Row>) -> Outcome {
    match who.mode {
        Mode::Prepared => fails(when, "0A000", row),
        _ => same(when, strings(columns), columns_of(&row?)?),
    }
}

async fn deallocate(who: &Who, session: &mut Session) -> Outcome {
    let mut kept = VecDeque::new();
    for round in 0..3 {
        for n in 0..20 {
            let statement = session.db.prepare(&format!("select $1::text || '/{}'", n)).await?;
            let row = session.db.query_one(&statement, &[&who.tag]).await?;
            same(&format!("round {}", round), format!("{}/{}", who.tag, n), row.try_get(0)?)?;
            kept.push_back(statement);
            if kept.len() > 5 {
                kept.pop_front();
            }
        }
        // One is closed within a transaction, and one more after the transaction has failed.
        let tx = session.db.transaction().await?;
        kept.pop_front();
        fails("division", "22012", tx.query("select 1 / $1::int", &[&0]).await.map_err(Failure::from))?;
        kept.pop_front();
        tx.rollback().await?;
        for statement in &kept {
            let row = session.db.query_one(statement, &[&who.tag]).await?;
            same("one that is kept", true, row.try_get::<_, &str>(0)?.starts_with(&format!("{}/", who.tag)))?;
        }
    }
    drop(kept);
    session.expect("the first again", &format!("{}/0", who.tag), "select $1::text || '/0'", &[&who.tag]).await
}

async fn many(who: &Who, session: &mut Session) -> Outcome {
    let texts: Vec<String> = (0..200).map(|n| format!("select $1::text || ':{}'", n)).collect();
    let params: Params = &[&who.tag];
    for _ in 0..3 {
        if who.mode == Mode::Pipeline {
            let rows = future::join_all(texts.iter().map(|text| session.db.query_one(text, params))).await;
            for (n, row) in rows.into_iter().enumerate() {
                same("one of many at once", format!("{}:{}", who.tag, n), row?.try_get(0)?)?;
            }
            continue;
        }
        for (n, text) in texts.iter().enumerate() {
            session.expect("one of many", &format!("{}:{}", who.tag, n), text, params).await?;
        }
    }
    texts.iter().for_each(|text| session.statements.forget(text));
    session.works(who).await
}

// Sessions

async fn parameters(who: &Who, _: &mut Session) -> Outcome {
    let (zone, noon) = ZONES[who.number % ZONES.len()];
    let mut config = settings();
    config.application_name(&who.tag).options(&format!("-c timezone={}", zone));
    let mut session = Session::connect_with(who, &config).await?;
    for _ in 0..30 {
        let Session { db, statements, .. } = &mut session;
        let tx = db.transaction().await?;
        statements.expect(&tx, "TimeZone", zone, "select current_setting('TimeZone')", &[]).await?;
        statements.expect(&tx, "application_name", &who.tag, "select current_setting('application_name')", &[]).await?;
        statements.expect(&tx, "noon", noon, "select '2026-01-15 12:00:00+00'::timestamptz::text", &[]).await?;
        tx.commit().await?;
    }
    session.close().await;
    Ok(())
}

async fn reconnect(who: &Who, _: &mut Session) -> Outcome {
    for round in 0..10 {
        let session = Session::connect(who).await?;
        session.works(who).await?;
        if round % 2 == 0 {
            session.close().await;
        }
    }
    Ok(())
}

const BATCH: i32 = 20;

/// Sends a batch of few texts at once and reads its answers; number `bad` fails. Each statement has its own Sync, so
/// those behind that one are answered, too, unless all are in a transaction: then `behind` is the error they get.
async fn batch<C: GenericClient + Sync>(who: &Who, statements: &Statements, db: &C, bad: i32, behind: &str) -> Outcome {
    let text = |n| match n {
        n if n == bad => "select $1::text || 1 / ($2::int * 0)".to_string(),
        n => format!("select $1::text || ':' || $2::int + {}", n % 4),
    };
    let answers = future::join_all((0..BATCH).map(|n| async move {
        let params: [&(dyn ToSql + Sync); 2] = [&who.tag, &n];
        Ok(match who.mode {
            Mode::Prepared => db.query_one(&statements.kept(db, &text(n)).await?, &params).await?,
            _ => db.query_one(&text(n), &params).await?,
        })
    }));
    for (n, answer) in (0..BATCH).zip(answers.await) {
        match n {
            n if n == bad => fails("the one in the middle", "22012", answer)?,
            n if n > bad && bad >= 0 && !behind.is_empty() => fails("behind it", behind, answer)?,
            n => same("in a batch", format!("{}:{}", who.tag, n + n % 4), answer?.try_get(0)?)?,
        }
    }
    Ok(())
}

async fn pipeline(who: &Who, session: &mut Session) -> Outcome {
    for _ in 0..5 {
        let Session { db, statements, .. } = &mut *session;
        batch(who, statements, db, -1, "").await?;
        batch(who, statements, db, 10, "").await?;
        statements.expect(db, "a good statement", &who.tag, "select $1::text", &[&who.tag]).await?;
        let two = future::join(batch(who, statements, db, -1, ""), batch(who, statements, db, 10, "")).await;
        two.0.and(two.1)?;
        let tx = db.transaction().await?;
        batch(who, statements, &tx, -1, "").await?;
        tx.commit().await?;
        let tx = db.transaction().await?;
        batch(who, statements, &tx, 10, "25P02").await?;
        tx.rollback().await?;
        whole_transaction(who, db).await?;
    }
    Ok(())
}

/// A transaction in one go: nothing is waited for but the last answer.
async fn whole_transaction(who: &Who, db: &Client) -> Outcome {
    let statement = db.prepare("select $1::text || '=' || $2::int").await?;
    let params: [Params; 2] = [&[&who.tag, &1], &[&who.tag, &2]];
    let (begin, one, two, commit) = future::join4(
        db.batch_execute("begin"),
        db.query_one(&statement, params[0]),
        db.query_one(&statement, params[1]),
        db.batch_execute("commit"),
    )
    .await;
    begin.and(commit)?;
    same("first", format!("{}=1", who.tag), one?.try_get(0)?)?;
    same("second", format!("{}=2", who.tag), two?.try_get(0)?)
}

async fn tagged(who: &Who, session: &mut Session) -> Outcome {
    for n in 0..200 {
        let expected = format!("{}#{}", who.tag, n);
        if n % 5 != 0 {
            session.expect("tag", &expected, "select $1::text", &[&expected]).await?;
            continue;
        }
        let Session { db, statements, .. } = &mut *session;
        let tx = db.transaction().await?;
        statements.expect(&tx, "tag", &expected, "select $1::text", &[&expected]).await?;
        statements.expect(&tx, "tag", &expected, "select $1::text", &[&expected]).await?;
        tx.commit().await?;
    }
    Ok(())
}
