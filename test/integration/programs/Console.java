// Asks the console as a dashboard on JDBC would: what comes back is printed, a line for each query.
import java.sql.*;

public class Console {
	public static void main(String[] args) throws Exception {
		try (Connection c = DriverManager.getConnection(args[0]); Statement s = c.createStatement()) {
			for (int i = 1; i < args.length; i++) {
				if (!s.execute(args[i])) {
					System.out.println(args[i] + ": no rows");
					continue;
				}
				try (ResultSet r = s.getResultSet()) {
					ResultSetMetaData m = r.getMetaData();
					int rows = 0;
					while (r.next())
						rows++;
					System.out.println(args[i] + ": " + rows + " rows, " + m.getColumnCount() + " columns, the first is "
						+ m.getColumnName(1) + " " + m.getColumnTypeName(1));
				}
			}
		}
	}
}
