// libpqxx: a client is a thread with a connection. Mode default sends the text with each execution, mode prepared gives
// each text a name on the connection.

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <pqxx/pqxx>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace
{
constexpr std::size_t MEGABYTE = 1 << 20;
constexpr int CANCEL_PAUSES = 20; // between two cancel requests, each of them ...
constexpr std::chrono::milliseconds CANCEL_PAUSE{ 10 };

const std::array<std::array<const char *, 2>, 5> ZONES{ {
	{ "UTC", "2024-07-01 12:00:00+00" },
	{ "Asia/Tokyo", "2024-07-01 21:00:00+09" },
	{ "America/New_York", "2024-07-01 08:00:00-04" },
	{ "Europe/Berlin", "2024-07-01 14:00:00+02" },
	{ "Australia/Adelaide", "2024-07-01 21:30:00+09:30" },
} };

struct options {
	std::string mode = "default", id = "x";
	int clients = 20;
	std::vector<std::string> steps;
};

// Something else came than was expected.
struct wrong : std::runtime_error {
	using std::runtime_error::runtime_error;
};

void check(const std::string &got, const std::string &expected, const std::string &what = "")
{
	if (got != expected)
		throw wrong("expected " + expected.substr(0, 200) + ", got " + got.substr(0, 200) + " (" + what + ")");
}

void check(bool good, const std::string &what)
{
	check(good ? "true" : "false", "true", what);
}

// A connection, and the names that statements have on it.
class session
{
      public:
	session(const std::string &mode, const std::string &settings = "") : mode_(mode), conn(settings)
	{
	}

	template <typename... Values>
	pqxx::result run(pqxx::transaction_base &tx, const std::string &text, Values... values)
	{
		if (mode_ != "prepared")
			return tx.exec_params(text, values...);
		auto found = names_.find(text);
		if (found == names_.end()) {
			found = names_.emplace(text, "s" + std::to_string(next_++)).first;
			conn.prepare(found->second, text);
		}
		return tx.exec_prepared(found->second, values...);
	}

	// A statement in a transaction of its own; its first value.
	template <typename... Values> std::string value(const std::string &text, Values... values)
	{
		pqxx::work tx(conn);
		pqxx::result result = run(tx, text, values...);
		tx.commit();
		return result.empty() || result[0][0].is_null() ? "NULL" : result[0][0].c_str();
	}

	// The statement fails with this SQLSTATE; the transaction stays as it is then.
	template <typename... Values>
	void fails(pqxx::transaction_base &tx, const std::string &sqlstate, const std::string &text, Values... values)
	{
		try {
			run(tx, text, values...);
		} catch (const pqxx::sql_error &e) {
			check(e.sqlstate(), sqlstate, text);
			forget(text);
			return;
		}
		throw wrong("expected " + sqlstate + ", got success (" + text + ")");
	}

	// The next use prepares it anew; unprepare() says DEALLOCATE for one that the server knows.
	void forget(const std::string &text)
	{
		names_.erase(text);
	}

	void unprepare(const std::string &text)
	{
		auto found = names_.find(text);
		if (found != names_.end())
			conn.unprepare(found->second);
		forget(text);
	}

      private:
	std::string mode_;
	std::map<std::string, std::string> names_;
	int next_ = 0;

      public:
	pqxx::connection conn;
};

class client
{
      public:
	client(const options &o, int number)
	    : options_(o), number_(number), tag_(o.id + "-" + std::to_string(number)),
	      zone_(ZONES[number % ZONES.size()])
	{
		connect();
	}

	void connect()
	{
		s_ = std::make_unique<session>(options_.mode);
	}

	void works(session &s)
	{
		check(s.value("select $1::text", tag_), tag_, "a good statement");
	}

	std::string table(const std::string &name)
	{
		return options_.id + "_" + name + "_" + std::to_string(number_);
	}

	void types()
	{
		const std::vector<std::array<std::string, 2>> cases{ { "int", "-2147483648" },
								     { "bigint", "9223372036854775807" },
								     { "numeric", "-12345678901234567890.123456789" },
								     { "text", u8"\u017elu\u0165 'q' \\ \n\t" },
								     { "bool", "t" },
								     { "date", "1999-12-31" },
								     { "timestamptz", "2024-02-29 23:59:59.123456+00" },
								     { "int[]", "{1,-2,3}" },
								     { "text[]", "{a,\"b\\\"c\",\"\",\"{,}\"}" },
								     { "json", "{\"a\": [1, null]}" },
								     { "uuid",
								       "12345678-9abc-def0-1234-56789abcdef0" } };
		for (const auto &[type, value] : cases)
			check(s_->value("select $1::" + type, value), value, type);
		std::string bytes;
		for (int i = 0; i < 256; i++)
			bytes.push_back(static_cast<char>(i));
		check(round_trip(bytes) == bytes, "bytea");
	}

	std::string round_trip(const std::string &bytes)
	{
		pqxx::work tx(s_->conn);
		pqxx::result result = s_->run(tx, "select $1::bytea", pqxx::binarystring(bytes));
		return pqxx::binarystring(result[0][0]).str();
	}

	void nulls()
	{
		pqxx::work tx(s_->conn);
		const char *null = nullptr;
		pqxx::row row = s_->run(tx, "select $1::int, $2::text, $3::int[], null", null, "", "{}")[0];
		check(row[0].is_null() && !row[1].is_null() && row[1].size() == 0 && row[3].is_null(), "NULLs");
		check(row[2].c_str(), "{}");
	}

	void large()
	{
		std::string text(MEGABYTE, static_cast<char>('a' + number_ % 26));
		check(s_->value("select $1::text", text) == text, "text");
		std::string bytes;
		for (std::size_t i = 0; i < MEGABYTE; i++)
			bytes.push_back(static_cast<char>(i * 7));
		check(round_trip(bytes) == bytes, "bytea");
		check(s_->value("select repeat($1, $2::int)", text.substr(0, 1), MEGABYTE) == text, "repeat");
	}

	void error()
	{
		const std::vector<std::array<std::string, 2>> cases{ { "22012", "select 1 / $1::int" },
								     { "42P01",
								       "select * from no_such_table where x = $1" },
								     { "42601", "selec $1" } };
		for (int i = 0; i < 4; i++) {
			for (const auto &[sqlstate, text] : cases) {
				pqxx::nontransaction tx(s_->conn);
				s_->fails(tx, sqlstate, text, 0);
				check(s_->run(tx, "select $1::text", tag_)[0][0].c_str(), tag_, "after an error");
			}
		}
	}

	void error_in_transaction()
	{
		std::string t = table("eit");
		s_->value("create table " + t + " (a int)");
		for (int i = 0; i < 3; i++) {
			pqxx::work tx(s_->conn);
			s_->run(tx, "insert into " + t + " values ($1)", 1);
			s_->fails(tx, "22012", "select 1 / $1::int", 0);
			s_->fails(tx, "25P02", "select $1::text || 'x'", "x");
			tx.abort();
		}
		works(*s_);
		check(s_->value("select count(*) from " + t), "0");
		s_->value("drop table " + t);
	}

	void transaction()
	{
		std::string t = table("tx");
		s_->value("create table " + t + " (a int)");
		session other(options_.mode);
		for (int n = 1; n <= 5; n++) {
			s_->value("insert into " + t + " values ($1)", n);
			check(other.value("select count(*) from " + t), std::to_string(n), "after commit");
			{
				pqxx::work tx(s_->conn);
				s_->run(tx, "insert into " + t + " values ($1)", n);
			}
			check(other.value("select count(*) from " + t), std::to_string(n), "after rollback");
		}
		s_->value("drop table " + t);
	}

	void savepoint()
	{
		std::string t = table("sp");
		s_->value("create table " + t + " (a int primary key)");
		for (int n = 10; n <= 30; n += 10) {
			pqxx::work tx(s_->conn);
			s_->run(tx, "insert into " + t + " values ($1)", n);
			{
				pqxx::subtransaction sub(tx, "one");
				sub.exec("select 1"); // which makes the savepoint; exec_params() does not
				s_->fails(sub, "23505", "insert into " + t + " values ($1::int)", n);
				sub.abort();
			}
			s_->run(tx, "insert into " + t + " values ($1)", n + 1);
			tx.commit();
		}
		check(s_->value("select string_agg(a::text, ',' order by a) from " + t), "10,11,20,21,30,31");
		s_->value("drop table " + t);
	}

	void copy()
	{
		std::string t = table("copy");
		s_->value("create table " + t + " (a int, b text)");
		for (int round = 0; round < 3; round++) {
			copy_in(t);
			copy_out(t);
			copy_bad(t);
			works(*s_);
			s_->value("delete from " + t);
		}
		s_->value("drop table " + t);
	}

	void copy_in(const std::string &t)
	{
		pqxx::work tx(s_->conn);
		pqxx::stream_to stream(tx, t);
		for (int n = 0; n < 1000; n++)
			stream << std::make_tuple(n, tag_ + " " + std::to_string(n));
		stream.complete();
		tx.commit();
	}

	void copy_out(const std::string &t)
	{
		pqxx::work tx(s_->conn);
		pqxx::stream_from stream(tx, t);
		std::tuple<int, std::string> row;
		int n = 0;
		while (stream >> row) {
			check(std::get<1>(row), tag_ + " " + std::to_string(std::get<0>(row)), "COPY");
			n++;
		}
		check(std::to_string(n), "1000", "rows of the COPY");
	}

	void copy_bad(const std::string &t)
	{
		try {
			pqxx::work tx(s_->conn);
			pqxx::stream_to stream(tx, t);
			stream << std::make_tuple("bad", "bad");
			stream.complete();
		} catch (const pqxx::sql_error &) {
			return;
		} catch (const pqxx::failure &) {
			return;
		}
		throw wrong("expected an error from a COPY of bad data, got success");
	}

	void cancel()
	{
		{
			pqxx::work tx(s_->conn);
			check(s_->run(tx, "select 1")[0][0].c_str(), "1");
			std::atomic<bool> ended{ false };
			std::thread canceler([&] {
				while (!ended) {
					s_->conn.cancel_query();
					for (int i = 0; i < CANCEL_PAUSES && !ended; i++)
						std::this_thread::sleep_for(CANCEL_PAUSE);
				}
			});
			try {
				s_->fails(tx, "57014", "select pg_sleep($1)", 60);
			} catch (...) {
				ended = true;
				canceler.join();
				throw;
			}
			ended = true;
			canceler.join();
		}
		works(*s_);
	}

	void reuse()
	{
		session s("default");
		s.conn.prepare("reuse", "select $1::text || ':' || $2::int || '/" + std::to_string(number_) + "'");
		for (int n = 0; n < 100; n++) {
			std::string expected = tag_ + ":" + std::to_string(n) + "/" + std::to_string(number_);
			if (n % 5 == 0) {
				pqxx::work tx(s.conn);
				check(tx.exec_prepared1("reuse", tag_, n)[0].c_str(), expected);
				check(tx.exec_prepared1("reuse", tag_, n)[0].c_str(), expected);
				tx.commit();
			} else {
				pqxx::nontransaction tx(s.conn);
				check(tx.exec_prepared1("reuse", tag_, n)[0].c_str(), expected);
			}
		}
	}

	void ddl()
	{
		std::string t = table("ddl"), text = "select * from " + t + " where a = $1";
		s_->value("create table " + t + " (a int, b text)");
		s_->value("insert into " + t + " values (1, $1)", tag_);
		session other(options_.mode);
		for (int round = 0; round < 2; round++) {
			for (int n = 0; n < 9; n++) {
				if (n == 6)
					other.value("alter table " + t + " add column c" + std::to_string(round) +
						    " text default 'new'");
				try {
					pqxx::work tx(s_->conn);
					pqxx::row row = s_->run(tx, text, 1)[0];
					check(std::to_string(row.size()), std::to_string(2 + round + (n >= 6)),
					      "columns");
					check(row[1].c_str(), tag_);
					if (n >= 6)
						check(row[2 + round].c_str(), "new");
				} catch (const pqxx::sql_error &e) {
					check(e.sqlstate(), n < 6 ? "success" : "0A000",
					      "execution " + std::to_string(n));
					s_->unprepare(text);
				}
			}
		}
		s_->value("drop table " + t);
	}

	void deallocate()
	{
		session s("prepared");
		for (int round = 0; round < 3; round++) {
			for (int n = 0; n < 20; n++) {
				std::string text = "select $1::text || '-" + std::to_string(n) + "'";
				check(s.value(text, tag_), tag_ + "-" + std::to_string(n));
				s.unprepare(text);
			}
		}
	}

	void many()
	{
		for (int round = 0; round < 3; round++)
			for (int n = 0; n < 200; n++)
				check(s_->value("select $1::text || ':" + std::to_string(n) + "'", tag_),
				      tag_ + ":" + std::to_string(n));
	}

	void parameters()
	{
		session s(options_.mode, "application_name=" + tag_ + " options='-c TimeZone=" + zone_[0] + "'");
		for (int n = 0; n < 30; n++) {
			pqxx::work tx(s.conn);
			pqxx::row row =
				s.run(tx,
				      "select current_setting('TimeZone'), current_setting('application_name'), "
				      "($1::text)::timestamptz::text",
				      "2024-07-01 12:00+00")[0];
			check(row[0].c_str(), zone_[0]);
			check(row[1].c_str(), tag_);
			check(row[2].c_str(), zone_[1]);
		}
	}

	void reconnect()
	{
		for (int n = 0; n < 10; n++) {
			session s(options_.mode);
			works(s);
			works(s);
		}
	}

	// Its pipeline puts statements together in one simple query; an error ends the transaction.
	void pipeline()
	{
		for (int round = 0; round < 3; round++) {
			{
				pqxx::work tx(s_->conn);
				pqxx::pipeline pipe(tx);
				pipe.retain(7);
				std::vector<pqxx::pipeline::query_id> ids;
				for (int n = 0; n < 20; n++)
					ids.push_back(pipe.insert("select '" + tag_ + ":" + std::to_string(n) + "'"));
				for (int n = 0; n < 20; n++)
					check(pipe.retrieve(ids[n])[0][0].c_str(), tag_ + ":" + std::to_string(n));
				pipe.complete();
				tx.commit();
			}
			try {
				pqxx::work tx(s_->conn);
				pqxx::pipeline pipe(tx);
				pipe.retain(3);
				pipe.insert("select 1");
				auto bad = pipe.insert("select 1 / 0");
				pipe.insert("select 2");
				pipe.retrieve(bad);
				throw wrong("expected 22012 in a pipeline, got success");
			} catch (const pqxx::sql_error &e) {
				check(e.sqlstate(), "22012", "in a pipeline");
			}
			works(*s_);
		}
	}

	void tagged()
	{
		for (int n = 0; n < 200; n++) {
			pqxx::work tx(s_->conn);
			for (int i = 0; i < (n % 5 == 0 ? 2 : 1); i++) {
				pqxx::row row = s_->run(tx, "select $1::text, $2::int", tag_, n)[0];
				check(row[0].c_str(), tag_);
				check(row[1].c_str(), std::to_string(n));
			}
			tx.commit();
		}
	}

      private:
	const options &options_;
	int number_;
	std::string tag_;
	const std::array<const char *, 2> &zone_;
	std::unique_ptr<session> s_;
};

struct step {
	std::string name;
	void (client::*run)();
};

const std::vector<step> STEPS{ { "types", &client::types },
			       { "nulls", &client::nulls },
			       { "large", &client::large },
			       { "error", &client::error },
			       { "error_in_transaction", &client::error_in_transaction },
			       { "transaction", &client::transaction },
			       { "savepoint", &client::savepoint },
			       { "copy", &client::copy },
			       { "cancel", &client::cancel },
			       { "reuse", &client::reuse },
			       { "ddl", &client::ddl },
			       { "deallocate", &client::deallocate },
			       { "many", &client::many },
			       { "parameters", &client::parameters },
			       { "reconnect", &client::reconnect },
			       { "pipeline", &client::pipeline },
			       { "tagged", &client::tagged } };

// One client, one step; what was wrong, or "".
std::string attempt(client &c, const step &s)
{
	try {
		(c.*s.run)();
		return "";
	} catch (const std::exception &e) {
		std::string text = e.what();
		std::cerr << text << std::endl;
		try {
			c.connect();
		} catch (const std::exception &again) {
			text += again.what();
		}
		for (char &letter : text)
			letter = letter == '\n' ? ' ' : letter;
		return text;
	}
}

// All clients at once. Prints the line about the step; returns whether it is good.
bool run_step(std::vector<std::unique_ptr<client>> &clients, const step &s)
{
	std::vector<std::string> said(clients.size());
	std::vector<std::thread> threads;
	for (std::size_t i = 0; i < clients.size(); i++)
		threads.emplace_back([&, i] { said[i] = attempt(*clients[i], s); });
	for (auto &thread : threads)
		thread.join();
	std::size_t failed = 0, first = 0;
	for (std::size_t i = said.size(); i-- > 0;) {
		if (!said[i].empty()) {
			failed++;
			first = i;
		}
	}
	if (failed == 0)
		std::cout << "ok " << s.name << std::endl;
	else
		std::cout << "FAIL " << s.name << ": " << said[first] << " (client " << first
			  << (failed > 1 ? ", and " + std::to_string(failed - 1) + " more" : "") << ")" << std::endl;
	return failed == 0;
}

options parse(int argc, char **argv)
{
	options o;
	for (int i = 1; i + 1 < argc; i += 2) {
		std::string name = argv[i], value = argv[i + 1];
		if (name == "--mode")
			o.mode = value;
		else if (name == "--clients")
			o.clients = std::stoi(value);
		else if (name == "--id")
			o.id = value;
		else if (name == "--step")
			o.steps.push_back(value);
	}
	return o;
}
} // namespace

int main(int argc, char **argv)
{
	const options o = parse(argc, argv);
	std::cout << "version " PQXX_VERSION << std::endl;
	std::vector<std::unique_ptr<client>> clients;
	bool good = true;
	for (int i = 0; i < o.clients; i++)
		clients.push_back(std::make_unique<client>(o, i));
	for (const auto &s : STEPS) {
		bool wanted = o.steps.empty();
		for (const auto &name : o.steps)
			wanted = wanted || name == s.name;
		if (wanted)
			good = run_step(clients, s) && good;
	}
	return good ? 0 : 1;
}
