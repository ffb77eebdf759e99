//! The steps about types: values there and back, each as the Rust type that the driver has for it.

use crate::{
    harness::{same, Outcome, Who},
    session::Session,
};
use bytes::BytesMut;
use chrono::{DateTime, Duration, NaiveDate, TimeZone, Utc};
use std::{error::Error, fmt::Debug, str};
use tokio_postgres::types::{to_sql_checked, FromSql, FromSqlOwned, IsNull, Kind, ToSql, Type};
use uuid::Uuid;

/// A value of an enum type, which the driver has to look up in the catalogs.
#[derive(Debug, Clone, PartialEq)]
struct Label(String);

impl Label {
    fn is_enum(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Enum(_))
    }
}

impl<'a> FromSql<'a> for Label {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Label, Box<dyn Error + Sync + Send>> {
        Ok(Label(str::from_utf8(raw)?.to_string()))
    }

    fn accepts(ty: &Type) -> bool {
        Label::is_enum(ty)
    }
}

impl ToSql for Label {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        Label::is_enum(ty)
    }

    to_sql_checked!();
}

async fn echo<T>(session: &Session, typ: &str, value: T) -> Outcome
where
    T: ToSql + FromSqlOwned + PartialEq + Debug + Sync,
{
    let text = format!("select $1::{}", typ);
    for _ in 0..3 {
        let got: T = session.row(&text, &[&value]).await?.try_get(0)?;
        same(typ, &value, &got)?;
    }
    Ok(())
}

pub async fn types(who: &Who, session: &mut Session) -> Outcome {
    for value in [0, -1, i32::MAX, i32::MIN] {
        echo(session, "int4", value).await?;
    }
    for value in [i64::MAX, i64::MIN] {
        echo(session, "int8", value).await?;
    }
    echo(session, "float8", 0.1f64).await?;
    echo(session, "text", "déjà vu 世界 😀 '\"\\ \n\t".to_string()).await?;
    let number = "-12345678901234567890.0123456789";
    session.expect("numeric", number, "select $1::text::numeric::text", &[&number]).await?;
    echo(session, "bytea", (0..=255).collect::<Vec<u8>>()).await?;
    echo(session, "bool", true).await?;
    echo(session, "date", NaiveDate::from_ymd_opt(2024, 2, 29)).await?;
    let moment: DateTime<Utc> =
        Utc.with_ymd_and_hms(2026, 11, 21, 15, 16, 17).unwrap() + Duration::microseconds(123456);
    echo(session, "timestamptz", moment).await?;
    echo(session, "int4[]", vec![1, -2, 3]).await?;
    echo(session, "text[]", ["a,b", "", "\"{}\\", "ž"].map(str::to_string).to_vec()).await?;
    echo(session, "json", serde_json::json!({"a": [1, null, "é"]})).await?;
    echo(session, "jsonb", serde_json::json!({"a": [1, null, "é"]})).await?;
    echo(session, "uuid", Uuid::from_u128(0x0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0)).await?;
    own_types(who, session).await
}

/// Types that the driver has to look up, between the parsing and the executing of the statement that has one.
async fn own_types(who: &Who, session: &Session) -> Outcome {
    let [label, pair] = ["label", "pair"].map(|name| who.named(name));
    let make = format!("create type {0} as enum ('one', 'two'); create type {1} as (a int, b {0})", label, pair);
    session.db.batch_execute(&make).await?;
    echo(session, &label, Label("two".to_string())).await?;
    echo(session, &format!("{}[]", label), vec![Label("two".to_string()), Label("one".to_string())]).await?;
    let statement = session.db.prepare(&format!("select null::{}", pair)).await?;
    let fields: Vec<_> = match statement.columns()[0].type_().kind() {
        Kind::Composite(fields) => fields.iter().map(|f| format!("{} {}", f.name(), f.type_().name())).collect(),
        _ => Vec::new(),
    };
    same("fields of a composite type", vec!["a int4".to_string(), format!("b {}", label)], fields)?;
    drop(statement);
    session.statements.forget(&format!("select $1::{}", label));
    session.statements.forget(&format!("select $1::{}[]", label));
    Ok(session.db.batch_execute(&format!("drop type {}; drop type {}", pair, label)).await?)
}

pub async fn nulls(_: &Who, session: &mut Session) -> Outcome {
    echo(session, "int4", None::<i32>).await?;
    echo(session, "text", None::<String>).await?;
    echo(session, "bytea", None::<Vec<u8>>).await?;
    echo(session, "timestamptz", None::<DateTime<Utc>>).await?;
    echo(session, "int4[]", None::<Vec<i32>>).await?;
    echo(session, "text", Some(String::new())).await?;
    echo(session, "bytea", Some(Vec::<u8>::new())).await?;
    echo(session, "int4[]", Some(Vec::<i32>::new())).await?;
    echo(session, "int4[]", vec![Some(1), None]).await?;
    let text = "select null::text, null::int, $1::text, null::bytea";
    let row = session.row(text, &[&"x"]).await?;
    same("a row of NULLs", (None, None), (row.try_get::<_, Option<&str>>(0)?, row.try_get::<_, Option<i32>>(1)?))?;
    same("a row of NULLs", (Some("x"), None), (row.try_get(2)?, row.try_get::<_, Option<&[u8]>>(3)?))
}
