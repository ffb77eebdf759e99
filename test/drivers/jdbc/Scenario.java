import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import java.time.OffsetDateTime;
import java.util.HexFormat;
import java.util.Map;
import java.util.Properties;
import java.util.TimeZone;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGobject;

/**
 * The common scenario with pgjdbc.
 *
 * How pgjdbc talks: a PreparedStatement is parsed as the unnamed statement until it has been used prepareThreshold
 * times, then as S_<n>; the result format becomes binary with the name, and the description of the columns is asked
 * for once and kept. Statements separated by semicolons and batches are pipelines that end in one Sync. BEGIN is sent
 * in front of the first statement of a transaction, in the same pipeline, as a statement of its own that is cached.
 */
final class Scenario {
	/** What distinguishes the modes: properties of the connection. */
	private static final Map<String, Map<String, String>> MODES = Map.of(
		"default", Map.of(),
		"prepared", Map.of("prepareThreshold", "1"),
		"simple", Map.of("preferQueryMode", "simple"),
		"extended-for-prepared", Map.of("preferQueryMode", "extendedForPrepared"),
		"cache-everything", Map.of("preferQueryMode", "extendedCacheEverything", "prepareThreshold", "1"),
		"autosave", Map.of("autosave", "always", "prepareThreshold", "1"));

	private static final String[][] ZONES = {
		{ "UTC", "2026-01-15 12:00:00+00" },
		{ "Europe/Zurich", "2026-01-15 13:00:00+01" },
		{ "America/New_York", "2026-01-15 07:00:00-05" },
		{ "Asia/Tokyo", "2026-01-15 21:00:00+09" },
		{ "Asia/Kolkata", "2026-01-15 17:30:00+05:30" },
	};

	private static final int LARGE = 1 << 20;
	private static final int CACHE = 5;

	private final Harness harness;
	private final Map<String, String> properties;

	private Scenario(Harness harness) {
		this.harness = harness;
		properties = MODES.get(harness.mode);
		if (properties == null)
			throw new IllegalArgumentException("unknown mode " + harness.mode);
	}

	public static void main(String[] args) throws Exception {
		Harness harness = new Harness(args);
		Scenario scenario = new Scenario(harness);
		System.out.println("version pgjdbc " + org.postgresql.util.DriverInfo.DRIVER_VERSION + " java "
			+ System.getProperty("java.version"));
		harness.step("types", scenario::types);
		harness.step("nulls", Scenario::nulls);
		harness.step("large", scenario::large);
		harness.step("error", Scenario::error);
		harness.step("error_in_transaction", scenario::errorInTransaction);
		harness.step("transaction", Scenario::transaction);
		harness.step("savepoint", Scenario::savepoint);
		harness.step("copy", Scenario::copy);
		harness.step("cancel", Scenario::cancel);
		harness.step("reuse", Scenario::reuse);
		harness.step("ddl", Scenario::ddl);
		harness.step("deallocate", scenario::deallocate);
		harness.step("many", scenario::many);
		harness.step("parameters", scenario::parameters);
		harness.step("reconnect", Scenario::reconnect);
		harness.step("pipeline", Scenario::pipeline);
		harness.step("tagged", Scenario::tagged);
		System.exit(harness.run(client -> scenario.connect("ApplicationName", client.tag)));
	}

	// Connections

	/** A connection in this mode with more properties, as names and values in turn. */
	private Connection connect(String... more) throws SQLException {
		Properties all = new Properties();
		all.putAll(properties);
		all.setProperty("user", System.getenv("PGUSER"));
		all.setProperty("password", System.getenv("PGPASSWORD"));
		all.setProperty("sslmode", "disable");
		for (int i = 0; i < more.length; i += 2)
			all.setProperty(more[i], more[i + 1]);
		return DriverManager.getConnection("jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT")
			+ "/" + System.getenv("PGDATABASE"), all);
	}

	/** pgjdbc says the time zone of the JVM when it connects, so that is what has to change meanwhile. */
	private static synchronized Connection connectIn(String zone, Connector connector) throws SQLException {
		TimeZone before = TimeZone.getDefault();
		TimeZone.setDefault(TimeZone.getTimeZone(zone));
		try {
			return connector.connect();
		} finally {
			TimeZone.setDefault(before);
		}
	}

	private interface Connector {
		Connection connect() throws SQLException;
	}

	private interface Work {
		void run() throws Exception;
	}

	private static void transactionOf(Connection c, Work work) throws Exception {
		c.setAutoCommit(false);
		work.run();
		c.commit();
		c.setAutoCommit(true);
	}

	private static void execute(Connection c, String sql) throws SQLException {
		try (Statement s = c.createStatement()) {
			s.execute(sql);
		}
	}

	/** The first column of the only row, with the arguments as setObject() sends them. */
	private static String ask(Connection c, String sql, Object... args) throws Exception {
		try (PreparedStatement s = c.prepareStatement(sql)) {
			return askAgain(s, args);
		}
	}

	private static String askAgain(PreparedStatement s, Object... args) throws Exception {
		for (int i = 0; i < args.length; i++)
			s.setObject(i + 1, args[i]);
		try (ResultSet rows = s.executeQuery()) {
			return only(rows);
		}
	}

	private static String only(ResultSet rows) throws Exception {
		if (!rows.next())
			throw new Harness.Mismatch("", "one row", "none");
		String value = rows.getString(1);
		if (rows.next())
			throw new Harness.Mismatch("", "one row", "more");
		return value;
	}

	/** After a failure the connection works. */
	private static void good(Harness.Client client) throws Exception {
		Harness.same("a good statement", client.tag, ask(client.connection(), "select ?::text", client.tag));
	}

	private static void makeTable(Connection c, String name, String columns) throws SQLException {
		execute(c, "drop table if exists " + name);
		execute(c, "create table " + name + " (" + columns + ")");
	}

	// Values

	private interface Setter {
		void set(PreparedStatement s) throws Exception;
	}

	private interface Getter {
		Object get(ResultSet rows) throws Exception;
	}

	/** Once per parse and once more with the name and in binary, whatever the threshold. */
	private static void roundTrip(Connection c, String type, Object value, Setter setter, Getter getter) throws Exception {
		try (PreparedStatement s = c.prepareStatement("select ?::" + type)) {
			for (int i = 0; i < 7; i++) {
				setter.set(s);
				try (ResultSet rows = s.executeQuery()) {
					rows.next();
					Harness.same(type + ", execution " + i, value, getter.get(rows));
				}
			}
		}
	}

	private static PGobject object(String type, String value) throws SQLException {
		PGobject o = new PGobject();
		o.setType(type);
		o.setValue(value);
		return o;
	}

	private static byte[] allBytes(int length) {
		byte[] bytes = new byte[length];
		for (int i = 0; i < length; i++)
			bytes[i] = (byte)i;
		return bytes;
	}

	/** The simple protocol has text only, and this version does not write a bytea as one. */
	private void setBytes(PreparedStatement s, int index, byte[] bytes) throws SQLException {
		if (harness.mode.equals("simple"))
			s.setString(index, "\\x" + HexFormat.of().formatHex(bytes));
		else
			s.setBytes(index, bytes);
	}

	private void types(Harness.Client client) throws Exception {
		Connection c = client.connection();
		for (int n : new int[] { 0, -1, Integer.MAX_VALUE, Integer.MIN_VALUE })
			roundTrip(c, "int4", n, s -> s.setInt(1, n), r -> r.getInt(1));
		for (long n : new long[] { Long.MAX_VALUE - 1, Long.MIN_VALUE + 1 })
			roundTrip(c, "int8", n, s -> s.setLong(1, n), r -> r.getLong(1));
		roundTrip(c, "int2", (short)-32768, s -> s.setShort(1, (short)-32768), r -> r.getShort(1));
		roundTrip(c, "float8", 0.1, s -> s.setDouble(1, 0.1), r -> r.getDouble(1));
		BigDecimal number = new BigDecimal("-12345678901234567890.0123456789");
		roundTrip(c, "numeric", number, s -> s.setBigDecimal(1, number), r -> r.getBigDecimal(1));
		String text = "d\u00e9j\u00e0 vu \u4e16\u754c \ud83d\ude00 '\"\\";
		roundTrip(c, "text", text, s -> s.setString(1, text), r -> r.getString(1));
		byte[] bytes = allBytes(256);
		roundTrip(c, "bytea", bytes, s -> setBytes(s, 1, bytes), r -> r.getBytes(1));
		roundTrip(c, "bool", true, s -> s.setBoolean(1, true), r -> r.getBoolean(1));
		Date date = Date.valueOf("2024-02-29");
		roundTrip(c, "date", date, s -> s.setDate(1, date), r -> r.getDate(1));
		OffsetDateTime time = OffsetDateTime.parse("2026-11-21T15:16:17.123456Z");
		roundTrip(c, "timestamptz", time.toInstant(), s -> s.setObject(1, time),
			r -> r.getObject(1, OffsetDateTime.class).toInstant());
		Integer[] ints = { 1, null, -3 };
		roundTrip(c, "int4[]", ints, s -> s.setArray(1, c.createArrayOf("int4", ints)), r -> r.getArray(1).getArray());
		String[] texts = { "a,b", "", null, "\"{}\\" };
		roundTrip(c, "text[]", texts, s -> s.setArray(1, c.createArrayOf("text", texts)), r -> r.getArray(1).getArray());
		String json = "{\"a\": [1, null, \"\u00e9\"]}";
		roundTrip(c, "json", json, s -> s.setObject(1, object("json", json)), r -> r.getString(1));
		UUID uuid = UUID.fromString("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0");
		roundTrip(c, "uuid", uuid, s -> s.setObject(1, uuid), r -> r.getObject(1));
	}

	private static void nulls(Harness.Client client) throws Exception {
		Connection c = client.connection();
		roundTrip(c, "int4", null, s -> s.setNull(1, Types.INTEGER), r -> r.getObject(1));
		roundTrip(c, "text", null, s -> s.setNull(1, Types.VARCHAR), r -> r.getObject(1));
		roundTrip(c, "bytea", null, s -> s.setNull(1, Types.BINARY), r -> r.getObject(1));
		roundTrip(c, "timestamptz", null, s -> s.setNull(1, Types.TIMESTAMP), r -> r.getObject(1));
		roundTrip(c, "text", "", s -> s.setString(1, ""), r -> r.getString(1));
		roundTrip(c, "int4[]", new Integer[0], s -> s.setArray(1, c.createArrayOf("int4", new Integer[0])),
			r -> r.getArray(1).getArray());
		try (Statement s = c.createStatement();
			ResultSet rows = s.executeQuery("select null::int, null::text, null::bytea, null::int[]")) {
			rows.next();
			for (int i = 1; i <= 4; i++)
				Harness.same("column " + i, null, rows.getObject(i));
		}
	}

	private void large(Harness.Client client) throws Exception {
		Connection c = client.connection();
		String text = ("0123456789abcde" + (char)('A' + client.number % 26)).repeat(LARGE / 16);
		byte[] bytes = allBytes(LARGE);
		try (PreparedStatement s = c.prepareStatement("select ?::text, ?::bytea")) {
			for (int i = 0; i < 2; i++) {
				s.setString(1, text);
				setBytes(s, 2, bytes);
				try (ResultSet rows = s.executeQuery()) {
					rows.next();
					Harness.same("text", text, rows.getString(1));
					Harness.same("bytea", bytes, rows.getBytes(2));
				}
			}
		}
		Harness.same("repeat", "x".repeat(LARGE), ask(c, "select repeat('x', ?)", LARGE));
	}

	// Errors and transactions

	private static void error(Harness.Client client) throws Exception {
		Connection c = client.connection();
		for (int i = 0; i < 3; i++) {
			Harness.fails("division", "22012", () -> ask(c, "select 1/?", 0));
			good(client);
			Harness.fails("no such table", "42P01", () -> ask(c, "select * from there_is_no_such_table where a = ?", 1));
			good(client);
			Harness.fails("syntax", "42601", () -> execute(c, "selec 1"));
			good(client);
		}
	}

	private void errorInTransaction(Harness.Client client) throws Exception {
		Connection c = client.connection();
		String table = client.prefix + "_err";
		makeTable(c, table, "n int");
		c.setAutoCommit(false);
		execute(c, "insert into " + table + " values (1)");
		Harness.fails("division", "22012", () -> ask(c, "select 1/?", 0));
		if (harness.mode.equals("autosave"))
			Harness.same("a savepoint of the driver saves it", "1", ask(c, "select count(*) from " + table));
		else
			Harness.fails("the next one", "25P02", () -> ask(c, "select ?::text", "x"));
		c.rollback();
		c.setAutoCommit(true);
		good(client);
		Harness.same("rows", "0", ask(c, "select count(*) from " + table));
		execute(c, "drop table " + table);
	}

	private static void transaction(Harness.Client client) throws Exception {
		Connection c = client.connection();
		String table = client.prefix + "_tra";
		makeTable(c, table, "n int");
		try (Connection other = client.connect()) {
			for (int i = 1; i <= 5; i++) {
				c.setAutoCommit(false);
				ask(c, "insert into " + table + " values (?) returning n", i);
				c.commit();
				Harness.same("after COMMIT", "" + i, ask(other, "select count(*) from " + table));
				ask(c, "insert into " + table + " values (?) returning n", -i);
				c.rollback();
				Harness.same("after ROLLBACK", "" + i, ask(other, "select count(*) from " + table));
				c.setAutoCommit(true);
			}
		}
		// Rows that come in portions: a portal with a name lives as long as the transaction does.
		transactionOf(c, () -> {
			try (PreparedStatement s = c.prepareStatement("select n from generate_series(1, ?) n")) {
				s.setFetchSize(7);
				s.setInt(1, 100);
				int expected = 1;
				try (ResultSet rows = s.executeQuery()) {
					while (rows.next())
						Harness.same("fetched row", expected++, rows.getInt(1));
				}
				Harness.same("fetched rows", 101, expected);
			}
		});
		execute(c, "drop table " + table);
	}

	private static void savepoint(Harness.Client client) throws Exception {
		Connection c = client.connection();
		String table = client.prefix + "_sav";
		makeTable(c, table, "n int primary key");
		transactionOf(c, () -> {
			execute(c, "insert into " + table + " values (1)");
			java.sql.Savepoint here = c.setSavepoint("here");
			Harness.fails("a second 1", "23505", () -> ask(c, "insert into " + table + " values (?) returning n", 1));
			c.rollback(here);
			execute(c, "insert into " + table + " values (2)");
			c.releaseSavepoint(here);
		});
		Harness.same("rows", "1,2", ask(c, "select string_agg(n::text, ',' order by n) from " + table));
		execute(c, "drop table " + table);
	}

	private static void copy(Harness.Client client) throws Exception {
		Connection c = client.connection();
		CopyManager api = c.unwrap(PGConnection.class).getCopyAPI();
		String table = client.prefix + "_cop";
		makeTable(c, table, "n int, t text");
		StringBuilder lines = new StringBuilder();
		for (int i = 0; i < 1000; i++)
			lines.append(i).append('\t').append(client.tag).append('\n');
		Harness.same("rows in", 1000L, api.copyIn("copy " + table + " from stdin", new StringReader(lines.toString())));
		ByteArrayOutputStream out = new ByteArrayOutputStream();
		Harness.same("rows out", 1000L, api.copyOut("copy (select * from " + table + " order by n) to stdout", out));
		Harness.same("lines", lines.toString(), out.toString(StandardCharsets.UTF_8));
		Harness.fails("bad data", "22P02",
			() -> api.copyIn("copy " + table + " from stdin", new StringReader("1\tok\nbad\tno\n")));
		good(client);
		execute(c, "drop table " + table);
	}

	private static void cancel(Harness.Client client) throws Exception {
		Connection c = client.connection();
		PGConnection pg = c.unwrap(PGConnection.class);
		CountDownLatch ended = new CountDownLatch(1);
		Thread canceler = new Thread(() -> {
			try {
				// Statement.cancel() asks only once, and the server ignores who asks before the statement is there.
				do
					pg.cancelQuery();
				while (!ended.await(200, TimeUnit.MILLISECONDS));
			} catch (Exception e) {
				e.printStackTrace();
			}
		});
		c.setAutoCommit(false);
		ask(c, "select ?::int", 1);
		canceler.start();
		try {
			Harness.fails("sleeping", "57014", () -> ask(c, "select pg_sleep(?)", 60));
		} finally {
			ended.countDown();
			canceler.join();
		}
		c.rollback();
		c.setAutoCommit(true);
		good(client);
	}

	// Prepared statements

	private static void reuse(Harness.Client client) throws Exception {
		Connection c = client.connection();
		try (PreparedStatement s = c.prepareStatement("select ?::text || ':' || ?::int")) {
			for (int i = 0; i < 100; i++) {
				String expected = client.tag + ":" + i;
				int n = i;
				Work once = () -> Harness.same("execution " + n, expected, askAgain(s, client.tag, n));
				if (i % 5 != 0) {
					once.run();
					continue;
				}
				transactionOf(c, () -> {
					once.run();
					once.run();
				});
			}
		}
	}

	/** The row as it is now, every column checked; true. Or the error that PostgreSQL has for it; false. */
	private static boolean row(String when, PreparedStatement s, int columns) throws Exception {
		String[] expected = { "1", "5", "new" };
		s.setInt(1, 1);
		try (ResultSet rows = s.executeQuery()) {
			Harness.same("columns " + when, columns, rows.getMetaData().getColumnCount());
			Harness.same("a row " + when, true, rows.next());
			for (int i = 0; i < columns; i++)
				Harness.same("column " + (i + 1) + " " + when, expected[i], rows.getString(i + 1));
			Harness.same("number " + when, 5L, rows.getLong(2));
			return true;
		} catch (SQLException e) {
			Harness.same(when, "0A000", e.getSQLState());
			return false;
		}
	}

	private static void ddl(Harness.Client client) throws Exception {
		Connection c = client.connection();
		String table = client.prefix + "_ddl";
		String[] changes = { "add column t text default 'new'", "alter column n type bigint", "drop column t" };
		int[] columns = { 2, 3, 3, 2 };
		makeTable(c, table, "id int, n int");
		execute(c, "insert into " + table + " values (1, 5)");
		for (int i = 0; i < changes.length; i++) {
			String after = "after " + changes[i];
			int now = columns[i + 1];
			try (PreparedStatement s = c.prepareStatement("select * from " + table + " where id = ?")) {
				for (int n = 0; n < 6; n++)
					Harness.same("before " + changes[i], true, row("before " + changes[i], s, columns[i]));
				try (Connection other = client.connect()) {
					execute(other, "alter table " + table + " " + changes[i]);
				}
				if (client.number % 2 == 0) {
					c.setAutoCommit(false);
					row("in a transaction " + after, s, now);
					c.rollback();
					c.setAutoCommit(true);
				}
				for (int n = 0; n < 3; n++)
					row(after, s, now);
			}
			try (PreparedStatement s = c.prepareStatement("select * from " + table + " where id = ?")) {
				Harness.same("prepared anew " + after, true, row(after, s, now));
			}
		}
		execute(c, "drop table " + table);
	}

	/** How often a statement must run until it has a name. */
	private int uses() {
		return Integer.parseInt(properties.getOrDefault("prepareThreshold", "5")) + 1;
	}

	private void deallocate(Harness.Client client) throws Exception {
		try (Connection c = connect("preparedStatementCacheQueries", "" + CACHE)) {
			for (int round = 0; round < 3; round++) {
				for (int i = 0; i < 4 * CACHE; i++) {
					for (int n = 0; n < uses(); n++)
						Harness.same("round " + round, client.tag + "/" + i, ask(c, "select ?::text || '/" + i + "'", client.tag));
				}
			}
			PreparedStatement s = c.prepareStatement("select ?::text || '/0'");
			for (int n = 0; n < uses(); n++)
				Harness.same("the first again", client.tag + "/0", askAgain(s, client.tag));
			s.close();
		}
		good(client);
	}

	private void many(Harness.Client client) throws Exception {
		for (int round = 0; round < 3; round++) {
			for (int i = 0; i < 200; i++)
				Harness.same("round " + round, client.tag + ":" + i,
					ask(client.connection(), "select ?::text || ':" + i + "'", client.tag));
		}
	}

	// Sessions

	private void parameters(Harness.Client client) throws Exception {
		String[] zone = ZONES[client.number % ZONES.length];
		String sql = "select current_setting('TimeZone'), current_setting('application_name'), "
			+ "'2026-01-15 12:00:00+00'::timestamptz::text, ?::text";
		try (Connection c = connectIn(zone[0], () -> connect("ApplicationName", client.tag));
			PreparedStatement s = c.prepareStatement(sql)) {
			for (int i = 0; i < 30; i++) {
				transactionOf(c, () -> {
					s.setString(1, client.tag);
					try (ResultSet rows = s.executeQuery()) {
						rows.next();
						Harness.same("TimeZone", zone[0], rows.getString(1));
						Harness.same("application_name", client.tag, rows.getString(2));
						Harness.same("timestamp", zone[1], rows.getString(3));
						Harness.same("tag", client.tag, rows.getString(4));
					}
				});
			}
		}
	}

	private static void reconnect(Harness.Client client) throws Exception {
		client.disconnect();
		for (int i = 0; i < 10; i++) {
			try (Connection c = client.connect()) {
				Harness.same("connection " + i, client.tag, ask(c, "select ?::text", client.tag));
			}
		}
	}

	/** Statements separated by semicolons are parsed, bound and executed one by one in front of one Sync. */
	private static PreparedStatement chain(Connection c, Harness.Client client, int length, int bad) throws SQLException {
		StringBuilder sql = new StringBuilder();
		for (int i = 0; i < length; i++)
			sql.append(i == bad ? "select ?::text || 1/(? - ?)::int;" : "select ?::text || ':' || (? + ? * 0)::int;");
		PreparedStatement s = c.prepareStatement(sql.toString());
		for (int i = 0; i < length; i++) {
			s.setString(3 * i + 1, client.tag);
			s.setInt(3 * i + 2, i);
			s.setInt(3 * i + 3, i);
		}
		return s;
	}

	private static void pipeline(Harness.Client client) throws Exception {
		Connection c = client.connection();
		for (int n = 0; n < 8; n++) {
			try (PreparedStatement s = chain(c, client, 20, -1)) {
				s.execute();
				for (int i = 0; i < 20; i++) {
					Harness.same("statement " + i, client.tag + ":" + i, only(s.getResultSet()));
					s.getMoreResults();
				}
			}
			try (PreparedStatement s = chain(c, client, 20, 10)) {
				Harness.fails("the one in the middle", "22012", s::execute);
			}
			good(client);
		}
		batch(client);
	}

	/** The same for batches; one that fails takes all of its rows back. */
	private static void batch(Harness.Client client) throws Exception {
		Connection c = client.connection();
		String table = client.prefix + "_pip";
		makeTable(c, table, "n int primary key, t text");
		try (PreparedStatement s = c.prepareStatement("insert into " + table + " values (?, ?)",
			Statement.RETURN_GENERATED_KEYS)) {
			for (int i = 0; i < 300; i++)
				add(s, i, client.tag);
			s.executeBatch();
			try (ResultSet keys = s.getGeneratedKeys()) {
				for (int i = 0; keys.next(); i++)
					Harness.same("key", i, keys.getInt(1));
			}
		}
		try (PreparedStatement s = c.prepareStatement("insert into " + table + " values (?, ?)")) {
			c.setAutoCommit(false);
			for (int i = 0; i < 20; i++)
				add(s, i == 10 ? 0 : 1000 + i, client.tag);
			Harness.fails("a batch with a duplicate", "23505", s::executeBatch);
			c.rollback();
			c.setAutoCommit(true);
			Harness.same("rows", "300", ask(c, "select count(*) from " + table + " where t = ?", client.tag));
			for (int i = 0; i < 20; i++)
				add(s, 2000 + i, client.tag);
			Harness.same("updates", 20, s.executeBatch().length);
		}
		try (Statement s = c.createStatement()) {
			for (int i = 0; i < 20; i++)
				s.addBatch("update " + table + " set n = n + 10000 where n = " + i);
			Harness.same("updates of a batch of texts", 20, s.executeBatch().length);
		}
		Harness.same("rows", "320", ask(c, "select count(*) from " + table + " where t = ?", client.tag));
		execute(c, "drop table " + table);
	}

	private static void add(PreparedStatement s, int n, String text) throws SQLException {
		s.setInt(1, n);
		s.setString(2, text);
		s.addBatch();
	}

	private static void tagged(Harness.Client client) throws Exception {
		Connection c = client.connection();
		for (int i = 0; i < 200; i++) {
			String expected = client.tag + "#" + i;
			Work once = () -> Harness.same("tag", expected, ask(c, "select ?::text", expected));
			if (i % 5 != 0) {
				once.run();
				continue;
			}
			transactionOf(c, () -> {
				once.run();
				once.run();
			});
		}
	}
}
