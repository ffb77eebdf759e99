# DBD::Pg: a client is a process per step. In mode default the driver makes a named statement when one is executed for
# the second time, in mode prepared for the first. It says DEALLOCATE when a statement handle goes away. Even clients
# have AutoCommit on, odd ones let the driver begin.

use strict;
use warnings;
use utf8;

use DBD::Pg qw(:pg_types :async);
use DBI;
use Getopt::Long;
use POSIX ();
use Time::HiRes qw(sleep);

use constant MEGABYTE => 1 << 20;

my @STEPS = qw(types nulls large error error_in_transaction transaction savepoint copy cancel reuse ddl deallocate many
	parameters reconnect pipeline tagged);
my @ZONES = (
	['UTC', '2024-07-01 12:00:00+00'],
	['Asia/Tokyo', '2024-07-01 21:00:00+09'],
	['America/New_York', '2024-07-01 08:00:00-04'],
	['Europe/Berlin', '2024-07-01 14:00:00+02'],
	['Australia/Adelaide', '2024-07-01 21:30:00+09:30'],
);

my ($mode, $clients, $id, @only) = ('default', 20, 'x');
GetOptions('mode=s' => \$mode, 'clients=i' => \$clients, 'id=s' => \$id, 'step=s' => \@only) or exit 3;

my ($number, $tag, $dbh);    # of this client
my @held;                    # statements that have failed

sub check
{
	my ($got, $expected, $what) = @_;
	my ($g, $e) = map { ref $_ ? join('|', map { $_ // 'NULL' } @$_) : $_ // 'NULL' } $got, $expected;
	return if $g eq $e;
	die sprintf "expected %.200s, got %.200s (%s)\n", $e, $g, $what // '';
}

sub connect_pg
{
	my (%env) = @_;
	local @ENV{keys %env} = values %env;
	return DBI->connect('dbi:Pg:', $ENV{PGUSER}, $ENV{PGPASSWORD}, {
		AutoCommit => $number % 2 == 0, RaiseError => 1, PrintError => 0, PrintWarn => 0, pg_enable_utf8 => 1,
		pg_switch_prepared => $mode eq 'prepared' ? 1 : 2,
	});
}

# Ends the driver's own transaction, if it has begun one.
sub done
{
	my ($h) = @_;
	$h->commit unless $h->{AutoCommit};
}

# One statement in a transaction of its own; all rows. The same handle is used for the same text.
sub rows
{
	my ($text, @values) = @_;
	my $sth = $dbh->prepare_cached($text);
	$sth->execute(@values);
	my $rows = $sth->{NUM_OF_FIELDS} ? $sth->fetchall_arrayref : [];
	done($dbh);
	return $rows;
}

sub value
{
	return rows(@_)->[0][0];
}

sub works
{
	@held = ();
	check(value('select ?::text', $tag), $tag, 'a good statement');
}

# A statement that must fail; the transaction stays as it is then. The handle is kept for a while: one that goes away in
# a failed transaction makes the driver roll back.
sub fails
{
	my ($sqlstate, $text, @values) = @_;
	push @held, my $sth = $dbh->prepare($text);
	my $good = eval { $sth->execute(@values); 1 };
	die "expected $sqlstate, got success ($text)\n" if $good;
	check($dbh->state, $sqlstate, $text);
}

sub end_failed
{
	$dbh->rollback unless $dbh->{AutoCommit};
}

sub begin
{
	$dbh->begin_work if $dbh->{AutoCommit};
}

sub table
{
	return "${id}_$_[0]_$number";
}

my %run;

$run{types} = sub {
	my @cases = (
		[int => '-2147483648'], [bigint => '9223372036854775807'], [numeric => '-12345678901234567890.123456789'],
		[text => "žluť 馬 🐘 'q' \\ \n\t"], [date => '1999-12-31'],
		[timestamptz => '2024-02-29 23:59:59.123456+00'], [json => '{"a": [1, null]}'],
		[uuid => '12345678-9abc-def0-1234-56789abcdef0'],
	);
	for (1 .. 3) {
		check(value("select ?::$_->[0]", $_->[1]), $_->[1], $_->[0]) for @cases;
		check(value('select ?::int[]', [1, -2, 3]), [1, -2, 3], 'int[]');
		check(value('select ?::text[]', ['a', 'b"c', '', '{,}']), ['a', 'b"c', '', '{,}'], 'text[]');
		check(value('select ?::bool', 1), 1, 'bool');
	}
	my $bytes = join '', map { chr } 0 .. 255;
	my $sth = $dbh->prepare('select ?::bytea');
	$sth->bind_param(1, $bytes, { pg_type => PG_BYTEA });
	for (1 .. 3) {
		$sth->execute;
		check($sth->fetchrow_arrayref->[0] eq $bytes, 1, 'bytea');
		$sth->finish;
	}
	done($dbh);
};

$run{nulls} = sub {
	check(rows("select ?::int, ?::text, null, ?::text is null", undef, '', '')->[0], [undef, '', undef, 0]) for 1 .. 3;
	check(value('select ?::int[]', []), [], 'an empty array');
};

$run{large} = sub {
	my $text = $tag . 'ř' x (MEGABYTE / 2);
	check(value('select ?::text', $text) eq $text, 1, 'text') for 1 .. 2;
	my $bytes = join('', map { chr } 0 .. 255) x (MEGABYTE / 256);
	my $sth = $dbh->prepare('select ?::bytea');
	$sth->bind_param(1, $bytes, { pg_type => PG_BYTEA });
	$sth->execute;
	check($sth->fetchrow_arrayref->[0] eq $bytes, 1, 'bytea');
	$sth->finish;
	done($dbh);
	check(value('select repeat(?, ?::int)', 'z', MEGABYTE) eq 'z' x MEGABYTE, 1, 'repeat');
};

$run{error} = sub {
	for (1 .. 4) {
		my $sth = $dbh->prepare('select 1 / ?::int');
		for (1 .. 3) {
			die "expected 22012, got success\n" if eval { $sth->execute(0); 1 };
			check($dbh->state, '22012', 'division');
			end_failed();
			works();
		}
		fails('42P01', 'select * from no_such_table where x = ?', 1);
		end_failed();
		works();
		fails('42601', 'selec ?', 1);
		end_failed();
		works();
	}
};

$run{error_in_transaction} = sub {
	my $t = table('eit');
	rows("create table $t (a int)");
	for (1 .. 3) {
		begin();
		$dbh->do("insert into $t values (?)", undef, 1);
		fails('22012', 'select 1 / ?::int', 0);
		fails('25P02', "select ?::text || 'x'", 'x');
		$dbh->rollback;
		works();
	}
	check(value("select count(*) from $t"), 0);
	rows("drop table $t");
};

$run{transaction} = sub {
	my $t = table('tx');
	rows("create table $t (a int)");
	my $other = connect_pg();
	my $count = sub {
		my $n = $other->selectrow_arrayref("select count(*) from $t")->[0];
		done($other);
		return $n;
	};
	for my $n (1 .. 5) {
		begin();
		$dbh->do("insert into $t values (?)", undef, $n);
		$dbh->commit;
		check($count->(), $n, 'after commit');
		begin();
		$dbh->do("insert into $t values (?)", undef, $n);
		$dbh->rollback;
		check($count->(), $n, 'after rollback');
	}
	$other->disconnect;
	rows("drop table $t");
};

$run{savepoint} = sub {
	my $t = table('sp');
	rows("create table $t (a int primary key)");
	for my $n (10, 20, 30) {
		begin();
		my $insert = $dbh->prepare("insert into $t values (?)");
		$insert->execute($n);
		$dbh->pg_savepoint('one');
		die "expected 23505, got success\n" if eval { $insert->execute($n); 1 };
		check($dbh->state, '23505', 'insert');
		$dbh->pg_rollback_to('one');
		$insert->execute($n + 1);
		$dbh->pg_release('one');
		$dbh->commit;
	}
	check([map { $_->[0] } @{ rows("select a from $t order by a") }], [10, 11, 20, 21, 30, 31]);
	rows("drop table $t");
};

$run{copy} = sub {
	my $t = table('copy');
	my @lines = map { "$_\t$tag $_\n" } 0 .. 999;
	rows("create table $t (a int, b text)");
	for (1 .. 3) {
		$dbh->do("copy $t from stdin");
		$dbh->pg_putcopydata($_) for @lines;
		$dbh->pg_putcopyend;
		done($dbh);
		$dbh->do("copy (select * from $t order by a) to stdout");
		my ($row, @got) = ('');
		push @got, $row while $dbh->pg_getcopydata($row) >= 0;
		check(join('', @got) eq join('', @lines), 1, 'rows of the COPY');
		done($dbh);
		$dbh->do("copy $t from stdin");
		$dbh->pg_putcopydata("1\tgood\nbad\tbad\n");
		die "expected 22P02, got success\n" if eval { $dbh->pg_putcopyend; 1 };
		check($dbh->state, '22P02', 'COPY of bad data');
		end_failed();
		works();
		rows("delete from $t where a >= ?", 0);
	}
	rows("drop table $t");
};

# The driver cancels a statement that it runs asynchronously. A notice tells that it runs.
$run{cancel} = sub {
	my $running = 0;
	local $SIG{__WARN__} = sub { $running = 1 if $_[0] =~ /is running/ };
	local $dbh->{PrintWarn} = 1;
	begin();
	check($dbh->selectrow_arrayref('select 1')->[0], 1);
	$dbh->do(q{do $$ begin raise warning 'is running'; perform pg_sleep(60); end $$}, { pg_async => PG_ASYNC });
	while (!$running) {
		die "expected a sleep, got its end\n" if $dbh->pg_ready;
		sleep 0.01;
	}
	eval { $dbh->pg_cancel };
	fails('25P02', "select ?::text || 'x'", 'x');
	$dbh->rollback;
	works();
};

$run{reuse} = sub {
	my $sth = $dbh->prepare("select ?::text || ':' || ?::int || '/$number'");
	for my $n (0 .. 99) {
		begin() if $n % 5 == 0;
		for (1 .. ($n % 5 == 0 ? 2 : 1)) {
			$sth->execute($tag, $n);
			check($sth->fetchall_arrayref->[0][0], "$tag:$n/$number");
		}
		$n % 5 == 0 ? $dbh->commit : done($dbh);
	}
};

$run{ddl} = sub {
	my $t = table('ddl');
	rows("create table $t (a int, b text)");
	rows("insert into $t values (1, ?)", $tag);
	my $other = connect_pg();
	for my $round (0 .. 1) {
		my @old = (1, $tag, 0 .. $round - 1);
		my $sth = $dbh->prepare("select * from $t where a = ?");
		for my $n (0 .. 8) {
			if ($n == 6) {
				$other->do("alter table $t add column c$round int default $round");
				done($other);
				push @old, $round;
			}
			if (eval { $sth->execute(1); 1 }) {
				check($sth->fetchall_arrayref->[0], \@old, "execution $n");
				done($dbh);
				next;
			}
			check($dbh->state, '0A000', 'after ALTER TABLE');
			end_failed();
			$sth = $dbh->prepare("select * from $t where a = ?");
		}
	}
	$other->disconnect;
	rows("drop table $t");
};

# A handle that goes away, or is replaced, makes the driver say DEALLOCATE.
$run{deallocate} = sub {
	for my $round (1 .. 3) {
		my @held;
		for my $n (1 .. 20) {
			my $sth = $dbh->prepare("select ?::text || '-$n'");
			for (1 .. 3) {
				$sth->execute($tag);
				check($sth->fetchall_arrayref->[0][0], "$tag-$n");
				done($dbh);
			}
			$held[$n % 5] = $sth;
		}
	}
};

$run{many} = sub {
	for my $round (1 .. 3) {
		check(value("select ?::text || ':$_'", $tag), "$tag:$_") for 1 .. 200;
	}
};

$run{parameters} = sub {
	my ($zone, $noon) = @{ $ZONES[$number % @ZONES] };
	my $text = "select current_setting('TimeZone'), current_setting('application_name'), (?::text)::timestamptz::text";
	my $keep = $dbh;
	$dbh = connect_pg(PGTZ => $zone, PGAPPNAME => $tag);
	my $good = eval {
		check(rows($text, '2024-07-01 12:00+00')->[0], [$zone, $tag, $noon]) for 1 .. 30;
		1;
	};
	my $error = $@;
	$dbh->disconnect;
	$dbh = $keep;
	die $error unless $good;
};

$run{reconnect} = sub {
	for (1 .. 10) {
		my $other = connect_pg();
		my $sth = $other->prepare('select ?::text');
		for (1 .. 3) {
			$sth->execute($tag);
			check($sth->fetchall_arrayref->[0][0], $tag);
			done($other);
		}
		$other->disconnect;
	}
};

$run{pipeline} = sub { die "skip the driver has none\n" };

$run{tagged} = sub {
	for my $n (0 .. 199) {
		begin() if $n % 5 == 0;
		my $sth = $dbh->prepare_cached('select ?::text, ?::int');
		for (1 .. ($n % 5 == 0 ? 2 : 1)) {
			$sth->execute($tag, $n);
			check($sth->fetchall_arrayref->[0], [$tag, $n]);
		}
		$n % 5 == 0 ? $dbh->commit : done($dbh);
	}
};

# Runs in the child: one client, one step. Prints what was wrong.
sub child
{
	my ($step, $out) = @_;
	binmode $out, ':utf8';
	$tag = "$id-$number";
	if (!eval { $dbh = connect_pg(); $run{$step}->(); $dbh->disconnect; 1 }) {
		my ($line) = split /\n/, $@;
		print $out $line || 'failed without a word';
	}
	close $out;
	POSIX::_exit(0);
}

# All clients at once; what each of them has to say.
sub outcomes
{
	my ($step) = @_;
	my (@pipes, @said);
	for my $n (0 .. $clients - 1) {
		pipe(my $in, my $out) or die "pipe: $!";
		my $pid = fork // die "fork: $!";
		if (!$pid) {
			$number = $n;
			child($step, $out);
		}
		close $out;
		push @pipes, $in;
	}
	for my $in (@pipes) {
		binmode $in, ':utf8';
		push @said, do { local $/; <$in> } // '';
	}
	1 while wait != -1;
	return @said;
}

$| = 1;
binmode STDOUT, ':utf8';
my $libpq = do { $number = 0; my $h = connect_pg(); my $v = $h->{pg_lib_version}; $h->disconnect; $v };
printf "version %s, libpq %d.%d\n", $DBD::Pg::VERSION, $libpq / 10000, $libpq % 10000;
my $bad = 0;
for my $step (@only ? @only : @STEPS) {
	my @said = outcomes($step);
	my @failed = grep { $said[$_] ne '' && $said[$_] !~ /^skip / } 0 .. $#said;
	if (@failed) {
		$bad = 1;
		my $more = @failed > 1 ? sprintf(', and %d more', @failed - 1) : '';
		print "FAIL $step: $said[$failed[0]] (client $failed[0]$more)\n";
	} elsif ($said[0] =~ /^skip (.*)/) {
		print "skip $step: $1\n";
	} else {
		print "ok $step\n";
	}
}
exit $bad;
