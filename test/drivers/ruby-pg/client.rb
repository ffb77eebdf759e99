# ruby-pg: a client is a thread with a connection; mode pipeline sends each statement as a batch of libpq's pipeline.

require 'date'
require 'optparse'
require 'pg'

STEPS = %w[types nulls large error error_in_transaction transaction savepoint copy cancel reuse ddl deallocate many
           parameters reconnect pipeline tagged].freeze
ZONES = [['UTC', '2024-07-01 12:00:00+00'], ['Asia/Tokyo', '2024-07-01 21:00:00+09'],
         ['America/New_York', '2024-07-01 08:00:00-04'], ['Europe/Berlin', '2024-07-01 14:00:00+02'],
         ['Australia/Adelaide', '2024-07-01 21:30:00+09:30']].freeze
MEGABYTE = 1 << 20
CANCEL_PAUSES = 20 # of 10 ms, between two cancel requests

class Wrong < StandardError; end

def check(got, expected, what = '')
  return if got == expected

  raise Wrong, "expected #{expected.inspect[0, 200]}, got #{got.inspect[0, 200]} (#{what})"
end

# One connection, and how statements are sent through it.
class Session
  attr_reader :conn

  def initialize(mode, **settings)
    @mode = mode
    @conn = PG.connect(**settings)
    @names = {}
  end

  def close
    @conn.close unless @conn.finished?
  end

  def forget
    @names.clear
  end

  # The rows of one statement, as text.
  def run(text, *values)
    case @mode
    when 'prepared' then prepared(text, values)
    when 'pipeline' then pipelined(text, values)
    else @conn.exec_params(text, values).values
    end
  end

  def prepared(text, values)
    unless @names[text]
      name = "s#{@names.size}"
      @conn.prepare(name, text)
      @names[text] = name
    end
    @conn.exec_prepared(@names[text], values).values
  end

  def pipelined(text, values)
    error = rows = nil
    @conn.enter_pipeline_mode
    @conn.send_query_params(text, values)
    @conn.pipeline_sync
    loop do
      result = @conn.get_result or next
      break if result.result_status == PG::PGRES_PIPELINE_SYNC

      begin
        result.check
        rows = result.values
      rescue PG::Error => e
        error = e
      end
    end
    @conn.exit_pipeline_mode
    raise error if error

    rows
  end

  def value(text, *values)
    run(text, *values)[0][0]
  end

  def works(tag)
    check(value('select $1::text', tag), tag, 'a good statement')
  end

  def fails(sqlstate, text, *values)
    rows = run(text, *values)
    raise Wrong, "expected #{sqlstate}, got #{rows.size} rows (#{text})"
  rescue PG::Error => e
    check(sqlstate_of(e), sqlstate, text)
  end

  def sqlstate_of(error)
    error.result ? error.result.error_field(PG::PG_DIAG_SQLSTATE) : error.message
  end
end

# The scenario of one client.
class Client
  def initialize(options, number)
    @mode = options[:mode]
    @id = options[:id]
    @number = number
    @tag = "#{@id}-#{number}"
    @zone, @noon = ZONES[number % ZONES.size]
    connect
  end

  def connect
    @s = Session.new(@mode)
  end

  def close
    @s.close
  end

  def other(**settings)
    second = Session.new(@mode, **settings)
    yield second
  ensure
    second&.close
  end

  def table(name)
    "#{@id}_#{name}_#{@number}"
  end

  def step_types
    values = { 'int' => '-2147483648', 'bigint' => '9223372036854775807',
               'numeric' => '-12345678901234567890.123456789', 'text' => "žluť 馬 🐘 'q' \\ \n\t", 'bool' => 't',
               'date' => '1999-12-31', 'timestamptz' => '2024-02-29 23:59:59.123456+00', 'int[]' => '{1,-2,3}',
               'text[]' => '{a,"b\"c","","{,}"}', 'json' => '{"a": [1, null]}',
               'uuid' => '12345678-9abc-def0-1234-56789abcdef0' }
    columns = values.keys.each_with_index.map { |type, n| "$#{n + 1}::#{type}" }
    3.times { check(@s.run("select #{columns.join(', ')}", *values.values)[0], values.values) }
    bytes = (0..255).to_a.pack('C*')
    result = @s.conn.exec_params('select $1::bytea, $2::int, $3::timestamptz',
                                 [{ value: bytes, format: 1 }, 77, '2024-02-29 23:59:59+00'], 1)
    check(result.getvalue(0, 0), bytes)
    typed = @s.conn.exec_params('select $1::int, $2::bool, $3::date', [5, true, '1999-12-31'])
    typed.type_map = PG::BasicTypeMapForResults.new(@s.conn) # looks types up in the catalogs
    check(typed.values[0], [5, true, Date.new(1999, 12, 31)])
  end

  def step_nulls
    3.times { check(@s.run('select $1::int, $2::text, $3::int[], null', nil, '', '{}')[0], [nil, '', '{}', nil]) }
  end

  def step_large
    text = (@tag + 'ř' * (MEGABYTE / 2))
    bytes = ((0..255).to_a.pack('C*') * (MEGABYTE / 256))
    check(@s.value('select $1::text', text) == text, true)
    got = @s.conn.exec_params('select $1::bytea', [{ value: bytes, format: 1 }], 1).getvalue(0, 0)
    check(got == bytes, true)
    check(@s.value('select repeat($1::text, $2::int)', 'z', MEGABYTE) == 'z' * MEGABYTE, true)
  end

  def step_error
    5.times do
      [['22012', 'select 1 / $1::int', 0], ['42P01', 'select * from no_such_table where x = $1', 1],
       ['42601', 'selec $1', 1]].each do |failing|
        @s.fails(*failing)
        @s.works(@tag)
      end
    end
  end

  def step_error_in_transaction
    @s.run("create table #{table('eit')} (a int)")
    3.times do
      @s.run('begin')
      @s.run("insert into #{table('eit')} values ($1)", 1)
      @s.fails('22012', 'select 1 / $1::int', 0)
      @s.fails('25P02', "select $1::text || 'x'", 'x')
      @s.run('rollback')
      @s.works(@tag)
    end
    check(@s.value("select count(*) from #{table('eit')}"), '0')
    @s.run("drop table #{table('eit')}")
  end

  def step_transaction
    t = table('tx')
    @s.run("create table #{t} (a int)")
    other do |second|
      5.times do |n|
        @s.conn.transaction { @s.run("insert into #{t} values ($1)", n) }
        check(second.value("select count(*) from #{t}"), (n + 1).to_s, 'after commit')
        begin
          @s.conn.transaction do
            @s.run("insert into #{t} values ($1)", n)
            raise IndexError
          end
        rescue IndexError
          check(second.value("select count(*) from #{t}"), (n + 1).to_s, 'after rollback')
        end
      end
    end
    @s.run("drop table #{t}")
  end

  def step_savepoint
    t = table('sp')
    @s.run("create table #{t} (a int primary key)")
    [10, 20, 30].each do |n|
      @s.run('begin')
      @s.run("insert into #{t} values ($1)", n)
      @s.run('savepoint one')
      @s.fails('23505', "insert into #{t} values ($1)", n)
      @s.run('rollback to savepoint one')
      @s.run("insert into #{t} values ($1)", n + 1)
      @s.run('release savepoint one')
      @s.run('commit')
    end
    check(@s.run("select a from #{t} order by a").flatten, %w[10 11 20 21 30 31])
    @s.run("drop table #{t}")
  end

  def step_copy
    t = table('copy')
    @s.run("create table #{t} (a int, b text)")
    lines = (0...1000).map { |n| "#{n}\t#{@tag} #{n}\n" }
    3.times do
      @s.conn.copy_data("copy #{t} from stdin") { lines.each { |line| @s.conn.put_copy_data(line) } }
      got = []
      @s.conn.copy_data("copy (select * from #{t} order by a) to stdout") do
        while (row = @s.conn.get_copy_data)
          got << row
        end
      end
      check(got == lines, true, 'rows of the COPY')
      bad_copy(t)
      @s.works(@tag)
      @s.run("delete from #{t}")
    end
    @s.run("drop table #{t}")
  end

  def bad_copy(name)
    @s.conn.copy_data("copy #{name} from stdin") { @s.conn.put_copy_data("1\tgood\nbad\tbad\n") }
    raise Wrong, 'expected 22P02 from a COPY of bad data, got success'
  rescue PG::Error => e
    check(@s.sqlstate_of(e), '22P02', 'COPY of bad data')
  end

  def step_cancel
    @s.run('begin')
    check(@s.value('select 1'), '1')
    ended = false
    canceler = Thread.new do
      until ended
        @s.conn.cancel
        CANCEL_PAUSES.times { sleep(0.01) unless ended }
      end
    end
    begin
      @s.fails('57014', 'select pg_sleep($1)', 60)
    ensure
      ended = true
      canceler.join
    end
    @s.run('rollback')
    @s.works(@tag)
  end

  def step_reuse
    @s.conn.prepare('reuse', "select $1::text || ':' || $2::int || '/#{@number}'")
    check(@s.conn.describe_prepared('reuse').nparams, 2)
    100.times do |n|
      if (n % 5).zero?
        @s.conn.transaction { 2.times { reuse(n) } }
      else
        reuse(n)
      end
    end
    @s.conn.exec('deallocate reuse')
  end

  def reuse(number)
    check(@s.conn.exec_prepared('reuse', [@tag, number]).getvalue(0, 0), "#{@tag}:#{number}/#{@number}")
  end

  def step_ddl
    t = table('ddl')
    @s.run("create table #{t} (a int, b text)")
    @s.run("insert into #{t} values (1, $1)", @tag)
    other do |second|
      2.times do |round|
        old = ['1', @tag] + (0...round).map(&:to_s)
        6.times { check(@s.run("select * from #{t} where a = $1", 1), [old], 'before ALTER TABLE') }
        second.run("alter table #{t} add column c#{round} int default #{round}")
        3.times { after_ddl("select * from #{t} where a = $1", old + [round.to_s]) }
      end
    end
    @s.run("drop table #{t}")
  end

  def after_ddl(text, row)
    check(@s.run(text, 1), [row], 'after ALTER TABLE')
  rescue PG::FeatureNotSupported
    @s.conn.exec('deallocate all')
    @s.forget
    check(@s.run(text, 1), [row], 'prepared anew after ALTER TABLE')
  end

  def step_deallocate
    3.times do |round|
      20.times do |n|
        @s.conn.prepare("d#{n % 5}", "select $1::text || '-#{n}-#{round}'")
        check(@s.conn.exec_prepared("d#{n % 5}", [@tag]).getvalue(0, 0), "#{@tag}-#{n}-#{round}")
        @s.conn.exec("DEALLOCATE d#{n % 5}")
      end
    end
  end

  def step_many
    3.times { 200.times { |n| check(@s.value("select $1::text || ':#{n}'", @tag), "#{@tag}:#{n}") } }
  end

  def step_parameters
    text = "select current_setting('TimeZone'), current_setting('application_name'), ($1::text)::timestamptz::text"
    other(options: "-c TimeZone=#{@zone}", application_name: @tag) do |second|
      30.times { check(second.run(text, '2024-07-01 12:00+00')[0], [@zone, @tag, @noon]) }
    end
  end

  def step_reconnect
    10.times do
      other do |second|
        second.works(@tag)
        second.works(@tag)
      end
    end
  end

  def step_pipeline
    3.times do |round|
      @s.conn.enter_pipeline_mode
      @s.conn.send_prepare("p#{round}", "select $1::text || '/#{@number}'")
      20.times { @s.conn.send_query_prepared("p#{round}", [@tag]) }
      @s.conn.pipeline_sync
      [1, 0, 1].each { |n| @s.conn.send_query_params('select 1 / $1::int', [n]) }
      @s.conn.pipeline_sync
      @s.conn.send_query_prepared("p#{round}", [@tag])
      @s.conn.pipeline_sync
      mine = "#{@tag}/#{@number}"
      check(answers, [nil, *[mine] * 20, 'sync', '1', '22012', 'aborted', 'sync', mine, 'sync'])
      @s.conn.exit_pipeline_mode
      @s.works(@tag)
    end
  end

  # What is left to come in a pipeline of three syncs: values, SQLSTATEs, syncs.
  def answers
    got = []
    while got.count('sync') < 3
      result = @s.conn.get_result or next
      got << case result.result_status
             when PG::PGRES_PIPELINE_SYNC then 'sync'
             when PG::PGRES_PIPELINE_ABORTED then 'aborted'
             when PG::PGRES_FATAL_ERROR then result.error_field(PG::PG_DIAG_SQLSTATE)
             else result.ntuples.zero? ? nil : result.getvalue(0, 0)
             end
    end
    got
  end

  def step_tagged
    text = 'select $1::text, $2::int'
    200.times do |n|
      if (n % 5).zero?
        @s.run('begin')
        check(@s.run(text, @tag, n)[0], [@tag, n.to_s])
        check(@s.run(text, @tag, -n)[0], [@tag, (-n).to_s])
        @s.run('commit')
      else
        check(@s.run(text, @tag, n)[0], [@tag, n.to_s])
      end
    end
  end
end

def attempt(client, step)
  client.public_send("step_#{step}")
  nil
rescue StandardError => e
  warn e.full_message(highlight: false)
  client.close
  client.connect
  e.is_a?(Wrong) ? e.message : "#{e.class}: #{e.message.lines.first.to_s.strip}"
end

options = { mode: 'default', clients: 20, id: 'x', step: [] }
OptionParser.new do |parser|
  parser.on('--mode MODE') { |v| options[:mode] = v }
  parser.on('--clients N', Integer) { |v| options[:clients] = v }
  parser.on('--id TAG') { |v| options[:id] = v }
  parser.on('--step NAME') { |v| options[:step] << v }
end.parse!
$stdout.sync = true
puts "version #{PG::VERSION}, libpq #{PG.library_version / 10_000}.#{PG.library_version % 10_000}"
clients = (0...options[:clients]).map { |n| Thread.new { Client.new(options, n) } }.map(&:value)
good = true
(options[:step].empty? ? STEPS : options[:step]).each do |step|
  errors = clients.map { |c| Thread.new { attempt(c, step) } }.map(&:value)
  first = errors.index { |e| e }
  more = errors.compact.size > 1 ? ", and #{errors.compact.size - 1} more" : ''
  puts first ? "FAIL #{step}: #{errors[first]} (client #{first}#{more})" : "ok #{step}"
  good &&= first.nil?
end
clients.each(&:close)
exit(good ? 0 : 1)
