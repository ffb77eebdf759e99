//! A connection of a client, and how the modes run a statement on it.

use crate::harness::{same, Failure, Mode, Outcome, Who};
use futures_util::future;
use std::{collections::HashMap, env, sync::Mutex};
use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinHandle};
use tokio_postgres::{
    config::SslMode,
    error::Error,
    types::{FromSqlOwned, ToSql},
    CancelToken, Client, Config, GenericClient, NoTls, Row, Statement,
};

pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

pub struct Session {
    pub db: Client,
    pub statements: Statements,
    task: JoinHandle<Result<(), Error>>,
}

impl Session {
    pub async fn connect(who: &Who) -> Outcome<Session> {
        Session::connect_with(who, &settings()).await
    }

    pub async fn connect_with(who: &Who, config: &Config) -> Outcome<Session> {
        let (db, connection) = config.connect(NoTls).await?;
        let statements = Statements { mode: who.mode, kept: Mutex::new(HashMap::new()) };
        Ok(Session { db, statements, task: tokio::spawn(connection) })
    }

    /// Closes the connection, having waited for all that is on its way.
    pub async fn close(self) {
        let Session { db, statements, task } = self;
        drop(statements);
        drop(db);
        let _ = task.await;
    }

    /// Runs a statement that has one row, not in a transaction.
    pub async fn row(&self, sql: &str, params: Params<'_>) -> Outcome<Row> {
        self.statements.row(&self.db, sql, params).await
    }

    /// Compares the only value of a statement.
    pub async fn expect(&self, what: &str, expected: &str, sql: &str, params: Params<'_>) -> Outcome {
        self.statements.expect(&self.db, what, expected, sql, params).await
    }

    /// A statement after a failure.
    pub async fn works(&self, who: &Who) -> Outcome {
        self.expect("a good statement", &who.tag, "select $1::text", &[&who.tag]).await
    }

    pub fn canceler(&self) -> Canceler {
        Canceler { token: self.db.cancel_token() }
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{} is not set", name))
}

fn port() -> u16 {
    variable("PGPORT").parse().expect("PGPORT is a number")
}

/// How to connect, from the environment.
pub fn settings() -> Config {
    let mut config = Config::new();
    config.host(&variable("PGHOST")).port(port()).dbname(&variable("PGDATABASE")).ssl_mode(SslMode::Disable);
    config.user(&variable("PGUSER")).password(variable("PGPASSWORD"));
    config
}

/// Cancels what a session runs.
pub struct Canceler {
    token: CancelToken,
}

impl Canceler {
    /// Sends one request and waits for the end of its connection, which says that it has been dealt with. The driver
    /// does not wait when it is left to connect by itself, and its request may hit a later statement.
    pub async fn send(&self) -> Outcome {
        let io = |error| Failure::Wrong(format!("expected no error of a cancel request, got {}", error));
        let mut stream = TcpStream::connect((variable("PGHOST"), port())).await.map_err(io)?;
        self.token.cancel_query_raw(&mut stream, NoTls).await?;
        stream.read_to_end(&mut Vec::new()).await.map_err(io)?;
        Ok(())
    }
}

/// How the mode runs a statement: `default` gives its text to the driver, which prepares, executes and closes it each
/// time; `prepared` keeps it; `pipeline` has another one on its way at the same time.
pub struct Statements {
    mode: Mode,
    kept: Mutex<HashMap<String, Statement>>,
}

impl Statements {
    /// The statement of a text, prepared now unless it is kept.
    pub async fn kept<C: GenericClient + Sync>(&self, db: &C, sql: &str) -> Outcome<Statement> {
        if let Some(statement) = self.kept.lock().unwrap().get(sql) {
            return Ok(statement.clone());
        }
        let statement = db.prepare(sql).await?;
        self.kept.lock().unwrap().insert(sql.to_string(), statement.clone());
        Ok(statement)
    }

    /// Closes the statement of a text.
    pub fn forget(&self, sql: &str) {
        self.kept.lock().unwrap().remove(sql);
    }

    /// Runs a statement that has one row.
    pub async fn row<C: GenericClient + Sync>(&self, db: &C, sql: &str, params: Params<'_>) -> Outcome<Row> {
        match self.mode {
            Mode::Default => Ok(db.query_one(sql, params).await?),
            Mode::Prepared => Ok(db.query_one(&self.kept(db, sql).await?, params).await?),
            Mode::Pipeline => {
                let length = sql.len() as i32;
                let behind: Params = &[&length];
                let (row, marker) =
                    future::join(db.query_one(sql, params), db.query_one("select $1::int", behind)).await;
                let row = row?;
                same("the statement behind it", length, marker?.try_get(0)?)?;
                Ok(row)
            }
        }
    }

    pub async fn value<T: FromSqlOwned, C: GenericClient + Sync>(
        &self,
        db: &C,
        sql: &str,
        params: Params<'_>,
    ) -> Outcome<T> {
        Ok(self.row(db, sql, params).await?.try_get(0)?)
    }

    /// Compares the only value of a statement, a text.
    pub async fn expect<C: GenericClient + Sync>(
        &self,
        db: &C,
        what: &str,
        expected: &str,
        sql: &str,
        params: Params<'_>,
    ) -> Outcome {
        same(what, expected.to_string(), self.value::<String, C>(db, sql, params).await?)
    }
}
