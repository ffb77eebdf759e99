<?php
// PDO: a client is a process per step. Even clients prepare named statements, as the driver does by default; odd ones
// have its attribute that disables that. A statement object that goes away makes the driver say DEALLOCATE.

declare(strict_types=1);

const STEPS = ['types', 'nulls', 'large', 'error', 'error_in_transaction', 'transaction', 'savepoint', 'copy', 'cancel',
	'reuse', 'ddl', 'deallocate', 'many', 'parameters', 'reconnect', 'pipeline', 'tagged'];
const ZONES = [['UTC', '2024-07-01 12:00:00+00'], ['Asia/Tokyo', '2024-07-01 21:00:00+09'],
	['America/New_York', '2024-07-01 08:00:00-04'], ['Europe/Berlin', '2024-07-01 14:00:00+02'],
	['Australia/Adelaide', '2024-07-01 21:30:00+09:30']];
const MEGABYTE = 1 << 20;

final class Wrong extends Exception
{
}

final class Skip extends Exception
{
}

function check(mixed $got, mixed $expected, string $what = ''): void
{
	if ($got === $expected) {
		return;
	}
	[$g, $e] = array_map(fn ($v) => substr((string) json_encode($v, JSON_UNESCAPED_UNICODE), 0, 200), [$got, $expected]);
	throw new Wrong("expected $e, got $g ($what)");
}

final class Client
{
	private string $tag;
	private PDO $pdo;

	public function __construct(private string $id, private int $number)
	{
		$this->tag = "$id-$number";
		$this->pdo = $this->open();
	}

	private function open(string $more = ''): PDO
	{
		[$host, $port, $db] = array_map('getenv', ['PGHOST', 'PGPORT', 'PGDATABASE']);
		return new PDO("pgsql:host=$host;port=$port;dbname=$db$more", getenv('PGUSER'), getenv('PGPASSWORD'), [
			PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
			PDO::PGSQL_ATTR_DISABLE_PREPARES => $this->number % 2 === 1,
		]);
	}

	private function rows(string $text, array $values = [], ?PDO $pdo = null): array
	{
		$statement = ($pdo ?? $this->pdo)->prepare($text);
		$statement->execute($values);
		return $statement->columnCount() ? $statement->fetchAll(PDO::FETCH_NUM) : [];
	}

	private function value(string $text, mixed ...$values): mixed
	{
		return $this->rows($text, $values)[0][0];
	}

	private function works(): void
	{
		check($this->value('select ?::text', $this->tag), $this->tag, 'a good statement');
	}

	private function fails(string $sqlstate, string $text, mixed ...$values): void
	{
		try {
			$this->rows($text, $values);
		} catch (PDOException $e) {
			check($e->getCode(), $sqlstate, $text);
			return;
		}
		throw new Wrong("expected $sqlstate, got success ($text)");
	}

	private function table(string $name): string
	{
		return "{$this->id}_{$name}_{$this->number}";
	}

	public function types(): void
	{
		$cases = ['int' => -2147483648, 'bigint' => PHP_INT_MAX, 'numeric' => '-12345678901234567890.123456789',
			'text' => "žluť 馬 🐘 'q' \\ \n\t", 'date' => '1999-12-31', 'timestamptz' => '2024-02-29 23:59:59.123456+00',
			'int[]' => '{1,-2,3}', 'text[]' => '{a,"b\"c","","{,}"}', 'json' => '{"a": [1, null]}',
			'uuid' => '12345678-9abc-def0-1234-56789abcdef0'];
		$columns = implode(', ', array_map(fn ($type) => "?::$type", array_keys($cases)));
		for ($i = 0; $i < 3; $i++) {
			check($this->rows("select $columns", array_values($cases))[0], array_values($cases));
		}
		$bytes = implode('', array_map('chr', range(0, 255)));
		check($this->bytes($bytes) === $bytes, true, 'bytea');
		$statement = $this->pdo->prepare('select ?::bool');
		$statement->bindValue(1, true, PDO::PARAM_BOOL);
		$statement->execute();
		check($statement->fetchColumn(), true, 'bool');
	}

	private function bytes(string $bytes): string
	{
		$statement = $this->pdo->prepare('select ?::bytea');
		$statement->bindValue(1, $bytes, PDO::PARAM_LOB);
		$statement->execute();
		return stream_get_contents($statement->fetchColumn());
	}

	public function nulls(): void
	{
		for ($i = 0; $i < 3; $i++) {
			check($this->rows("select ?::int, ?::text, ?::int[], null", [null, '', '{}'])[0], [null, '', '{}', null]);
		}
	}

	public function large(): void
	{
		$text = $this->tag . str_repeat('ř', MEGABYTE >> 1);
		check($this->value('select ?::text', $text) === $text, true, 'text');
		$bytes = str_repeat(implode('', array_map('chr', range(0, 255))), MEGABYTE >> 8);
		check($this->bytes($bytes) === $bytes, true, 'bytea');
		check($this->value('select repeat(?::text, ?::int)', 'z', MEGABYTE) === str_repeat('z', MEGABYTE), true, 'repeat');
	}

	public function error(): void
	{
		for ($i = 0; $i < 5; $i++) {
			$this->fails('22012', 'select 1 / ?::int', 0);
			$this->works();
			$this->fails('42P01', 'select * from no_such_table where x = ?', 1);
			$this->works();
			$this->fails('42601', 'selec ?', 1);
			$this->works();
		}
	}

	public function error_in_transaction(): void
	{
		$t = $this->table('eit');
		$this->pdo->exec("create table $t (a int)");
		for ($i = 0; $i < 3; $i++) {
			$this->pdo->beginTransaction();
			$this->rows("insert into $t values (?)", [1]);
			$this->fails('22012', 'select 1 / ?::int', 0);
			$this->fails('25P02', "select ?::text || 'x'", 'x');
			$this->pdo->rollBack();
			$this->works();
		}
		check($this->value("select count(*) from $t"), 0);
		$this->pdo->exec("drop table $t");
	}

	public function transaction(): void
	{
		$t = $this->table('tx');
		$this->pdo->exec("create table $t (a int)");
		$other = $this->open();
		for ($n = 1; $n <= 5; $n++) {
			$this->pdo->beginTransaction();
			$this->rows("insert into $t values (?)", [$n]);
			$this->pdo->commit();
			check($this->rows("select count(*) from $t", [], $other), [[$n]], 'after commit');
			$this->pdo->beginTransaction();
			$this->rows("insert into $t values (?)", [$n]);
			$this->pdo->rollBack();
			check($this->rows("select count(*) from $t", [], $other), [[$n]], 'after rollback');
		}
		$this->pdo->exec("drop table $t");
	}

	public function savepoint(): void
	{
		$t = $this->table('sp');
		$this->pdo->exec("create table $t (a int primary key)");
		foreach ([10, 20, 30] as $n) {
			$this->pdo->beginTransaction();
			$this->rows("insert into $t values (?)", [$n]);
			$this->pdo->exec('savepoint one');
			$this->fails('23505', "insert into $t values (?)", $n);
			$this->pdo->exec('rollback to savepoint one');
			$this->rows("insert into $t values (?)", [$n + 1]);
			$this->pdo->exec('release savepoint one');
			$this->pdo->commit();
		}
		check(array_column($this->rows("select a from $t order by a"), 0), [10, 11, 20, 21, 30, 31]);
		$this->pdo->exec("drop table $t");
	}

	public function copy(): void
	{
		$t = $this->table('copy');
		$this->pdo->exec("create table $t (a int, b text)");
		$lines = array_map(fn ($n) => "$n\t{$this->tag} $n\n", range(0, 999));
		for ($i = 0; $i < 3; $i++) {
			$this->pdo->pgsqlCopyFromArray($t, $lines);
			check($this->pdo->pgsqlCopyToArray($t) === $lines, true, 'rows of the COPY');
			try {
				$this->pdo->pgsqlCopyFromArray($t, ["1\tgood\n", "bad\tbad\n"]);
				throw new Wrong('expected 22P02 from a COPY of bad data, got success');
			} catch (PDOException $e) {
				check($e->errorInfo[0], '22P02', 'COPY of bad data');
			}
			$this->works();
			$this->pdo->exec("delete from $t");
		}
		$this->pdo->exec("drop table $t");
	}

	public function cancel(): void
	{
		throw new Skip('PDO cannot');
	}

	public function reuse(): void
	{
		$statement = $this->pdo->prepare("select ?::text || ':' || ?::int || '/{$this->number}'");
		for ($n = 0; $n < 100; $n++) {
			$inside = $n % 5 === 0;
			$inside && $this->pdo->beginTransaction();
			for ($i = 0; $i < ($inside ? 2 : 1); $i++) {
				$statement->execute([$this->tag, $n]);
				check($statement->fetchAll(PDO::FETCH_COLUMN), ["{$this->tag}:$n/{$this->number}"]);
			}
			$inside && $this->pdo->commit();
		}
	}

	public function ddl(): void
	{
		$t = $this->table('ddl');
		$this->pdo->exec("create table $t (a int, b text)");
		$this->rows("insert into $t values (1, ?)", [$this->tag]);
		$other = $this->open();
		for ($round = 0; $round < 2; $round++) {
			$row = array_merge([1, $this->tag], $round ? range(0, $round - 1) : []);
			$statement = $this->pdo->prepare("select * from $t where a = ?");
			for ($n = 0; $n < 9; $n++) {
				if ($n === 6) {
					$other->exec("alter table $t add column c$round int default $round");
					$row[] = $round;
				}
				try {
					$statement->execute([1]);
					// The driver remembers the types of the first execution, and none for a column that is new.
					$got = array_map('strval', $statement->fetchAll(PDO::FETCH_NUM)[0]);
					check($got, array_map('strval', $row), "execution $n");
				} catch (PDOException $e) {
					check($e->getCode(), '0A000', "execution $n");
					$statement = $this->pdo->prepare("select * from $t where a = ?");
				}
			}
		}
		$this->pdo->exec("drop table $t");
	}

	public function deallocate(): void
	{
		for ($round = 0; $round < 3; $round++) {
			$held = [];
			for ($n = 0; $n < 20; $n++) {
				$statement = $this->pdo->prepare("select ?::text || '-$n'");
				for ($i = 0; $i < 2; $i++) {
					$statement->execute([$this->tag]);
					check($statement->fetchAll(PDO::FETCH_COLUMN), ["{$this->tag}-$n"]);
				}
				$held[$n % 5] = $statement;
			}
		}
	}

	public function many(): void
	{
		$held = [];
		for ($round = 0; $round < 3; $round++) {
			for ($n = 0; $n < 200; $n++) {
				$held[$n] ??= $this->pdo->prepare("select ?::text || ':$n'");
				$held[$n]->execute([$this->tag]);
				check($held[$n]->fetchAll(PDO::FETCH_COLUMN), ["{$this->tag}:$n"]);
			}
		}
	}

	public function parameters(): void
	{
		[$zone, $noon] = ZONES[$this->number % count(ZONES)];
		$text = "select current_setting('TimeZone'), current_setting('application_name'), (?::text)::timestamptz::text";
		$pdo = $this->open(";application_name={$this->tag};options='-c TimeZone=$zone'");
		for ($n = 0; $n < 30; $n++) {
			check($this->rows($text, ['2024-07-01 12:00+00'], $pdo), [[$zone, $this->tag, $noon]]);
		}
	}

	public function reconnect(): void
	{
		for ($n = 0; $n < 10; $n++) {
			$pdo = $this->open();
			check($this->rows('select ?::text', [$this->tag], $pdo), [[$this->tag]]);
			check($this->rows('select ?::text', [$this->tag], $pdo), [[$this->tag]]);
			$pdo = null;
		}
	}

	public function pipeline(): void
	{
		throw new Skip('PDO has none');
	}

	public function tagged(): void
	{
		for ($n = 0; $n < 200; $n++) {
			$inside = $n % 5 === 0;
			$inside && $this->pdo->beginTransaction();
			check($this->rows('select ?::text, ?::int', [$this->tag, $n]), [[$this->tag, $n]]);
			$inside && check($this->rows('select ?::text, ?::int', [$this->tag, -$n]), [[$this->tag, -$n]]);
			$inside && $this->pdo->commit();
		}
	}
}

// Runs in the child: one client, one step. Returns what was wrong.
function attempt(string $id, int $number, string $step): string
{
	try {
		(new Client($id, $number))->$step();
		return '';
	} catch (Skip $e) {
		return 'skip ' . $e->getMessage();
	} catch (Throwable $e) {
		fwrite(STDERR, "-- client $number\n$e\n");
		return strtok($e->getMessage(), "\n") ?: 'failed without a word';
	}
}

// All clients at once; what each of them has to say.
function outcomes(string $id, int $clients, string $step): array
{
	$pipes = $said = [];
	for ($n = 0; $n < $clients; $n++) {
		$pair = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
		if (pcntl_fork() === 0) {
			fclose($pair[0]);
			fwrite($pair[1], attempt($id, $n, $step));
			exit(0);
		}
		fclose($pair[1]);
		$pipes[] = $pair[0];
	}
	foreach ($pipes as $pipe) {
		$said[] = stream_get_contents($pipe);
	}
	while (pcntl_wait($status) > 0) {
	}
	return $said;
}

ini_set('memory_limit', '-1');
$options = getopt('', ['mode:', 'clients:', 'id:', 'step:']);
$steps = (array) ($options['step'] ?? STEPS);
$pdo = new PDO(sprintf('pgsql:host=%s;port=%s;dbname=%s', getenv('PGHOST'), getenv('PGPORT'), getenv('PGDATABASE')),
	getenv('PGUSER'), getenv('PGPASSWORD'));
echo 'version ', PHP_VERSION, ', libpq ', $pdo->getAttribute(PDO::ATTR_CLIENT_VERSION), "\n";
$pdo = null;
$good = true;
foreach ($steps as $step) {
	$said = outcomes($options['id'] ?? 'x', (int) ($options['clients'] ?? 20), $step);
	$failed = array_filter($said, fn ($s) => $s !== '' && !str_starts_with($s, 'skip '));
	if ($failed) {
		$good = false;
		$first = array_key_first($failed);
		$more = count($failed) > 1 ? ', and ' . (count($failed) - 1) . ' more' : '';
		echo "FAIL $step: {$failed[$first]} (client $first$more)\n";
	} elseif (str_starts_with($said[0], 'skip ')) {
		echo "skip $step: ", substr($said[0], 5), "\n";
	} else {
		echo "ok $step\n";
	}
}
exit($good ? 0 : 1);
