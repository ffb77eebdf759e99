#!/bin/sh
# Breaks the pooler on purpose, in one place at a time, and lets the torture loose on each of these: it must notice.
# This shows of the machinery of prepared statements what --sabotage of run.sh cannot, which works on the bytes between
# pooler and server. Works on a copy of the sources, which are a git checkout. mutants.sh [SOURCES [NAME...]]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "${1:-$here/../..}" && pwd)
[ $# -eq 0 ] || shift
work=$(mktemp -d "${TMPDIR:-/tmp}/mutants.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$work"
unnoticed= count=0

# run OPTIONS: the torture, on the pooler as it has just been built; options of run.sh.
run()
{
	"$here/run.sh" --pooler "$work/build/pgsluice" --bindir "$work/build/test/torture" --profile pgsluice \
		--seconds 10 --clients 40 --pool-size 8 --stall 10 --no-chaos "$@" 2>/dev/null | tail -n 1
}

# mutant NAME FILE 'TEXT' 'WITH' [options of run.sh]: TEXT, which stands once in FILE, is replaced.
mutant()
{
	name=$1 file=$2
	case " $wanted " in
	"  " | *" $name "*) ;;
	*) shift 4; return 0 ;;
	esac
	count=$((count + 1))
	cp "$work/source/src/$file" "$work/original"
	MUTANT_TEXT=$3 MUTANT_WITH=$4 perl -0 -pe \
		'$n = s/\Q$ENV{MUTANT_TEXT}\E/$ENV{MUTANT_WITH}/g; die "stands there $n times\n" if $n != 1' \
		"$work/original" >"$work/source/src/$file" || { echo "mutants.sh: $name does not fit $file" >&2; exit 3; }
	shift 4
	make -s -C "$work/build" pgsluice >"$work/make.log" 2>&1 || { cat "$work/make.log" >&2; exit 3; }
	last=$(run --sabotage off "$@")
	echo "$name: $last"
	case $last in
	*"was noticed: "*) ;;
	*) unnoticed="$unnoticed $name" ;;
	esac
	cp "$work/original" "$work/source/src/$file"
}

wanted=$*
mkdir "$work/build"
(cd "$top" && git ls-files -z | tar -c --null -T - -f -) | (mkdir "$work/source" && tar -x -C "$work/source" -f -)
(cd "$work/source" && autoreconf -fi >/dev/null 2>&1)
(cd "$work/build" && "$work/source/configure" -q CFLAGS='-O1 -g')
make -s -C "$work/build" -j2 pgsluice test/torture/torture test/torture/chaos >"$work/make.log" 2>&1

sound=$(run --only named,unnamed,shaped,ddl,set)
echo "as it is: $sound"
[ "$sound" = "0 wrong" ]

mutant number pool/virtual.c '(size_t)(name.p - before)), entry->number);' \
	'(size_t)(name.p - before)), entry->number ^ (w->f.type == FE_BIND));' --only named --prepared 50
mutant undo pool/prep.c 'for (uint32_t i = n; i > 0; i--)' 'for (uint32_t i = 0; i > 0; i--)' --only named
mutant order pool/prep.c 'prep_record_undo(ps, pc, prep_record_at(ps, i - 1));' \
	'prep_record_undo(ps, pc, prep_record_at(ps, n - i));' --only named
mutant shape pool/virtual.c 'if (w->f.type == FE_BIND && told->shape != SHAPE_UNKNOWN) {' 'if (false) {' --only shaped,ddl
mutant foreign pool/link.c 'client->unnamed = UNNAMED_FOREIGN;' 'client->unnamed = UNNAMED_OWN;' --only unnamed
mutant text pool/virtual.c 'if (last != NULL && stmt_has_text(last, (const uint8_t *)body.p, body.n))' \
	'if (last != NULL)' --only unnamed
mutant forget pool/virtual.c 'prep_client_forget(&server->client->prep, &server->prep);' '(void)0;' --only named
mutant close pool/virtual.c 'known = virtual_forget(client, name);
	ok =' 'known = NULL;
	ok =' --only named
mutant wait pool/virtual_sql.c 'w->client->is_forgetting = true;' 'w->client->is_forgetting = false;' --only named
mutant victim pool/virtual_sql.c 'prep_client_remove(&client->prep, known);
	prep_server_record(&server->prep, (struct prep_record){ .op = PREP_FORGET, .name = known });' \
	'prep_server_record(&server->prep, (struct prep_record){ .op = PREP_FORGET, .name = NULL });' --only named
mutant vars pool/link.c 'if (LIKELY(client->vars == server->vars)) {' 'if (true) {' --only set
mutant pieces pool/link_client.c '(link_is_half(&w) || link_reset_is_cut(&w))' 'link_is_half(&w)' \
	--only named --mode session --pool-size 40 --seconds 30

echo "$count mutants${unnoticed:+, not noticed:$unnoticed}"
[ -z "$unnoticed" ]
