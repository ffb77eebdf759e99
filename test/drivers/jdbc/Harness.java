import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * What every program of test/drivers does around its scenario: arguments, concurrent clients, one line per step.
 *
 * A step is submitted once per client to a pool of as many threads, and the next one begins when all have ended: that
 * is the barrier. A client whose step failed gets a new connection, so that one failure does not spoil the rest.
 */
final class Harness {
	interface Step {
		void run(Client client) throws Exception;
	}

	/** Where a client gets its connections from; the mode has been chosen. */
	interface Connector {
		Connection connect(Client client) throws SQLException;
	}

	static final class Client {
		final int number;
		final String tag;
		/** The beginning of the names of this client's tables. */
		final String prefix;
		private final Connector connector;
		private Connection connection;

		Client(String id, int number, Connector connector) {
			this.number = number;
			this.tag = id + "-" + number;
			this.prefix = id + "_" + number;
			this.connector = connector;
		}

		Connection connection() throws SQLException {
			if (connection == null)
				connection = connect();
			return connection;
		}

		/** One more connection; the caller closes it. */
		Connection connect() throws SQLException {
			return connector.connect(this);
		}

		void disconnect() {
			try {
				if (connection != null)
					connection.close();
			} catch (SQLException e) {
				// It is gone, which is all that was wanted.
			}
			connection = null;
		}
	}

	static final class Skip extends Exception {
		private static final long serialVersionUID = 1L;

		Skip(String why) {
			super(why);
		}
	}

	static final class Mismatch extends Exception {
		private static final long serialVersionUID = 1L;

		Mismatch(String what, String expected, String got) {
			super("expected " + shorten(expected) + ", got " + shorten(got) + (what.isEmpty() ? "" : " [" + what + "]"));
		}
	}

	private final Map<String, Step> steps = new LinkedHashMap<>();
	final String mode;
	final String id;
	private int clients = 1;
	private final List<String> only = new ArrayList<>();

	Harness(String[] args) {
		String mode = "default";
		String id = "jdbc";
		for (int i = 0; i + 1 < args.length; i += 2) {
			switch (args[i]) {
			case "--mode" -> mode = args[i + 1];
			case "--clients" -> clients = Integer.parseInt(args[i + 1]);
			case "--id" -> id = args[i + 1];
			case "--step" -> only.add(args[i + 1]);
			default -> throw new IllegalArgumentException("unknown option " + args[i]);
			}
		}
		this.mode = mode;
		this.id = id;
	}

	void step(String name, Step step) {
		steps.put(name, step);
	}

	/** Runs all steps with all clients; returns the exit status. */
	int run(Connector connector) throws Exception {
		List<Client> all = new ArrayList<>();
		for (int i = 0; i < clients; i++)
			all.add(new Client(id, i, connector));
		ExecutorService threads = Executors.newFixedThreadPool(clients);
		boolean failed = false;
		for (Map.Entry<String, Step> entry : steps.entrySet()) {
			if (only.isEmpty() || only.contains(entry.getKey()))
				failed |= !runStep(entry.getKey(), entry.getValue(), all, threads);
		}
		threads.shutdown();
		all.forEach(Client::disconnect);
		return failed ? 1 : 0;
	}

	private static boolean runStep(String name, Step step, List<Client> all, ExecutorService threads) throws Exception {
		List<Future<Exception>> results = new ArrayList<>();
		for (Client client : all)
			results.add(threads.submit(() -> attempt(step, client)));
		String failure = null;
		String skipped = null;
		int failures = 0;
		for (int i = 0; i < results.size(); i++) {
			Exception e = results.get(i).get();
			if (e instanceof Skip) {
				skipped = e.getMessage();
			} else if (e != null && failures++ == 0) {
				failure = describe(e) + " (client " + i;
				if (!(e instanceof Mismatch))
					e.printStackTrace();
			}
		}
		if (failure != null)
			System.out.println("FAIL " + name + ": " + failure + (failures > 1 ? ", and " + (failures - 1) + " more)" : ")"));
		else if (skipped != null)
			System.out.println("skip " + name + ": " + skipped);
		else
			System.out.println("ok " + name);
		System.out.flush();
		return failure == null;
	}

	private static Exception attempt(Step step, Client client) {
		try {
			step.run(client);
			return null;
		} catch (Skip e) {
			return e;
		} catch (Exception e) {
			client.disconnect();
			return e;
		}
	}

	private static String describe(Exception e) {
		if (e instanceof Mismatch)
			return e.getMessage();
		String state = e instanceof SQLException ? ((SQLException) e).getSQLState() + " " : "";
		return "expected no error, got " + state + shorten(String.valueOf(e.getMessage() == null ? e : e.getMessage()));
	}

	private static String shorten(String text) {
		String line = text.replace('\n', ' ');
		return line.length() <= 200 ? line : line.substring(0, 200) + "... (" + line.length() + " characters)";
	}

	static void same(String what, Object expected, Object got) throws Mismatch {
		if (!Objects.deepEquals(expected, got))
			throw new Mismatch(what, show(expected), show(got));
	}

	private static String show(Object value) {
		if (value instanceof byte[])
			return Arrays.toString((byte[]) value);
		return value instanceof Object[] ? Arrays.deepToString((Object[]) value) : String.valueOf(value);
	}

	interface Action {
		void run() throws Exception;
	}

	/** The action must fail with one of these SQLSTATEs. */
	static void fails(String what, String state, Action action) throws Exception {
		try {
			action.run();
		} catch (SQLException e) {
			same(what, state, e.getSQLState());
			return;
		}
		throw new Mismatch(what, state, "no error");
	}
}
