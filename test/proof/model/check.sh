#!/usr/bin/env bash
# Has spin search the models: every scene for errors, of which there must be none, and every fault and
# every limit for the claim that it breaks. Prints a table, and fails if anything comes out otherwise.
# A pattern as argument runs only what matches: check.sh 'fault*'. JOBS searches run at once, and each
# takes LIMIT seconds at most. The C compiler does not optimize, because most searches take less time
# than that would.
set -euo pipefail
cd "$(dirname "$0")"

for tool in spin cc; do
	command -v "$tool" >/dev/null 2>&1 || {
		echo "check: there is no $tool: run scripts/install-spin.sh, or as root: apt-get update && apt-get install -y --no-install-recommends spin gcc libc6-dev" >&2
		exit 1
	}
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
only=${1:-*}
jobs=${JOBS:-$(nproc)}
model=session.pml
n=0

# run NAME CLAIM DEFINES… starts a search, at most $jobs at a time. The claim that breaks; none: nothing does.
run() {
	local name=$1
	# shellcheck disable=SC2254
	case $name in
	$only) ;;
	*) return ;;
	esac
	n=$((n + 1))
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
	search "$(printf '%s/%03d' "$work" "$n")" "$@" &
}

search() {
	local dir=$1 name=$2 want=$3 verdict=ok got states seconds
	shift 3
	mkdir "$dir"
	touch "$dir/out"
	if ! (cd "$dir" && cp "$OLDPWD/$model" . && spin "$@" -a "$model" && cc -O0 -w -DSAFETY -DMEMLIM=4000 -o pan pan.c) >"$dir/build" 2>&1; then
		cat "$dir/build" >&2
		verdict='does not compile'
	else
		(cd "$dir" && timeout "${LIMIT:-1800}" ./pan -n -m100000 -w24 >out 2>&1) || true
		rm -f "$dir/pan"
	fi
	got=$(sed -n 's/^pan:[0-9]*: assertion violated \([a-z_]*\).*/\1/p' "$dir/out" | head -n 1)
	states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' "$dir/out")
	seconds=$(sed -n 's/^pan: elapsed time \([0-9.]*\) seconds/\1/p' "$dir/out")
	if [ -z "$states" ]; then
		verdict='DID NOT FINISH'
	elif grep -qE 'max search depth too small|Search not completed|out of memory' "$dir/out" && [ "$want" = none ]; then
		verdict='NOT EXHAUSTIVE'
	elif [ "$want" = none ]; then
		grep -q 'errors: 0$' "$dir/out" || verdict="BREAKS $(grep -m1 '^pan:' "$dir/out")"
	elif [ "$got" != "$want" ]; then
		verdict="NOT FOUND, but: ${got:-$(grep -m1 -oE 'errors: .*|^pan:1:.*' "$dir/out")}"
	fi
	[ "$verdict" = ok ] || touch "$dir/failed"
	printf '%-38s %-32s %10s %8s  %s\n' "$name" "${got:-nothing}" "${states:--}" "${seconds:--}" "$verdict" | tee "$dir/line"
}

printf '%-38s %-32s %10s %8s\n' "" breaks states seconds

alone=(-DCALLS=4 -DTICKS=4 -DFAILURES=2)
stalls=(-DCALLS=3 -DTICKS=4 -DFAILURES=1 -DSTALLS=2)
refusals=(-DCALLS=3 -DTICKS=3 -DFAILURES=2 -DSTALLS=2 -DREFUSALS=1)
gone=(-DCALLS=3 -DTICKS=4 -DSTALLS=1 -DHANGUPS=2)
lands=(-DCALLS=3 -DTICKS=3 -DFAILURES=2 -DLANDS=1)
touched=(-DCALLS=3 -DTICKS=4 -DFAILURES=1 -DTOUCHES=1)
instances=(-DCALLS=3 -DTICKS=4 -DFAILURES=1 -DINSTANCES=2)
failover=(-DCALLS=4 -DTICKS=5 -DLOSSES=1 -DDEPTH=2)
recovery=(-DTICKS=6 -DFAILURES=1 -DRECOVERY=3)
strict=(-DGRACE=0 -DTABS=1 -DCALLS=5 -DTICKS=4 -DFAILURES=3)
strict_touched=(-DGRACE=0 -DTABS=1 -DCALLS=3 -DTICKS=3 -DFAILURES=2 -DTOUCHES=1)
thief=(-DTHEFTS=2 -DCALLS=2 -DTICKS=4)
thief_longer=(-DTHEFTS=3 -DTABS=1 -DCALLS=3 -DTICKS=4)
thief_failures=(-DTHEFTS=2 -DTABS=1 -DCALLS=2 -DTICKS=3 -DFAILURES=2)
thief_stalls=(-DTHEFTS=2 -DTABS=1 -DCALLS=2 -DTICKS=4 -DSTALLS=1)
thief_instances=(-DTHEFTS=1 -DTABS=1 -DCALLS=2 -DTICKS=3 -DFAILURES=1 -DINSTANCES=2)
thief_failover=(-DTHEFTS=2 -DTABS=1 -DCALLS=2 -DTICKS=4 -DLOSSES=1)
thief_recovery=(-DTHEFTS=2 -DTABS=1 -DCALLS=2 -DTICKS=5 -DRECOVERY=3)
thief_gone=(-DTHEFTS=2 -DTABS=1 -DCALLS=2 -DTICKS=3 -DSTALLS=1 -DHANGUPS=1)
thief_slow_recovery=(-DTHEFTS=1 -DTABS=1 -DCALLS=1 -DTICKS=5 -DSTALLS=1 -DRECOVERY=3 -DINSTANCES=2)
thief_heard=(-DHEARD -DTHEFTS=1 -DCALLS=2 -DTICKS=3 -DFAILURES=1)
thief_strict=(-DTHEFTS=2 -DTABS=1 -DCALLS=2 -DTICKS=2 -DGRACE=0 -DFAILURES=1)
logout=(-DLOGOUTS=1 -DCALLS=2 -DTICKS=2 -DFAILURES=1 -DLOSSES=1 -DDEPTH=2)
logout_instances=(-DLOGOUTS=1 -DTABS=1 -DCALLS=3 -DTICKS=2 -DFAILURES=1 -DLOSSES=1 -DINSTANCES=2)
logout_thief=(-DLOGOUTS=1 -DTHEFTS=1 -DCALLS=2 -DTICKS=2 -DLOSSES=1)
key=(-DCLIENT_KEY=1 -DCALLS=3 -DTICKS=4 -DFAILURES=2)
key_late=(-DCLIENT_KEY=1 -DTABS=1 -DCALLS=4 -DTICKS=6 -DFAILURES=1 -DSTALLS=1 -DHANGUPS=1)
key_later=(-DCLIENT_KEY=2 -DCALLS=3 -DTICKS=4 -DFAILURES=1)
key_bare=(-DCLIENT_KEY=2 -DBARE_TABS=1 -DCALLS=3 -DTICKS=4 -DFAILURES=1)
key_bare_stalls=(-DCLIENT_KEY=2 -DBARE_TABS=1 -DCALLS=3 -DTICKS=4 -DSTALLS=1)
key_instances=(-DCLIENT_KEY=2 -DTABS=1 -DCALLS=3 -DTICKS=4 -DFAILURES=1 -DINSTANCES=2)
key_failover=(-DCLIENT_KEY=2 -DTABS=1 -DCALLS=4 -DTICKS=5 -DLOSSES=1 -DDEPTH=2)
key_strict=(-DCLIENT_KEY=2 -DGRACE=0 -DTABS=1 -DCALLS=4 -DTICKS=3 -DFAILURES=2)
copies=(-DCLIENT_KEY=2 -DCOPIES_BOUND=1 -DTHEFTS=2 -DTABS=1 -DCALLS=3 -DTICKS=4 -DFAILURES=1)
copies_failover=(-DCLIENT_KEY=1 -DTHIEF_KEY=1 -DCOPIES_BOUND=1 -DTHEFTS=2 -DTABS=1 -DCALLS=3 -DTICKS=4 -DLOSSES=1)
rebound=(-DCLIENT_KEY=2 -DTHIEF_KEY=1 -DTHEFTS=2 -DTABS=1 -DCALLS=2 -DTICKS=3 -DLOSSES=1)
binds=(-DTHIEF_KEY=1 -DTHEFTS=2 -DTABS=1 -DCALLS=2 -DTICKS=4 -DPUT_OFFS=2)
binds_failures=(-DCLIENT_KEY=1 -DTHIEF_KEY=1 -DTHEFTS=1 -DTABS=1 -DCALLS=2 -DTICKS=3 -DFAILURES=1)
binds_stalls=(-DTHIEF_KEY=1 -DTHEFTS=1 -DTABS=1 -DCALLS=2 -DTICKS=4 -DSTALLS=1)
puts_off=(-DSERIAL=1 -DTHIEF_KEY=1 -DTHEFTS=1 -DTABS=1 -DCALLS=1 -DTICKS=8)
hangs_up=("${puts_off[@]}" -DHANGUPS=1)

run "scene: alone" none "${alone[@]}"
run "scene: stalls" none "${stalls[@]}"
run "scene: authorizer fails" none "${refusals[@]}"
run "scene: callers gone" none "${gone[@]}"
run "scene: writes land late" none "${lands[@]}"
run "scene: touched" none "${touched[@]}"
run "scene: two instances" none "${instances[@]}"
run "scene: failover" none "${failover[@]}"
run "scene: recovery" none "${recovery[@]}"
run "scene: strict" none "${strict[@]}"
run "scene: strict, touched" none "${strict_touched[@]}"
run "scene: thief" none "${thief[@]}"
run "scene: thief, longer" none "${thief_longer[@]}"
run "scene: thief, failures" none "${thief_failures[@]}"
run "scene: thief, stalls" none "${thief_stalls[@]}"
run "scene: thief, two instances" none "${thief_instances[@]}"
run "scene: thief, failover" none "${thief_failover[@]}"
run "scene: thief, recovery" none "${thief_recovery[@]}"
run "scene: thief, callers gone" none "${thief_gone[@]}"
run "scene: thief, slow recovery" none "${thief_slow_recovery[@]}"
run "scene: thief, received before" none "${thief_heard[@]}"
run "scene: thief, strict" none "${thief_strict[@]}"
run "scene: logout" none "${logout[@]}"
run "scene: logout, two instances" none "${logout_instances[@]}"
run "scene: logout, thief" none "${logout_thief[@]}"
run "scene: key" none "${key[@]}"
run "scene: key, late" none "${key_late[@]}"
run "scene: key, later" none "${key_later[@]}"
run "scene: key, tab without" none "${key_bare[@]}"
run "scene: key, tab without, stalls" none "${key_bare_stalls[@]}"
run "scene: key, two instances" none "${key_instances[@]}"
run "scene: key, failover" none "${key_failover[@]}"
run "scene: key, strict" none "${key_strict[@]}"
run "scene: key, thief of bound" none "${copies[@]}"
run "scene: key, thief of bound, failover" none "${copies_failover[@]}"
run "scene: key, thief, failover" none "${rebound[@]}"
run "scene: key, thief binds" none "${binds[@]}"
run "scene: key, thief, failures" none "${binds_failures[@]}"
run "scene: key, thief binds, stalls" none "${binds_stalls[@]}"
run "scene: key, thief puts off" none -DPUT_OFFS=2 "${puts_off[@]}"
run "scene: key, thief hangs up" none -DPUT_OFFS=4 "${hangs_up[@]}"

run "fault: no compare-and-swap" one_live_successor -DF_NO_CAS "${alone[@]}"
run "fault: no compare-and-swap, logout" revocation_is_terminal -DF_NO_CAS -DLOGOUTS=1 -DTABS=1 -DCALLS=1 -DTICKS=0
run "fault: swap compares no revocation" revocation_is_terminal -DF_VERSION_ONLY "${logout[@]}"
run "fault: grace slides" thief_is_caught -DF_GRACE_SLIDES "${thief[@]}"
run "fault: parent always accepted" thief_is_caught -DF_PARENT_ALWAYS "${thief[@]}"
run "fault: grandparent accepted" thief_is_caught -DF_GRANDPARENT "${thief[@]}"
run "fault: reuse does not revoke" nothing_works_after_the_end -DF_REUSE_SPARES "${thief[@]}"
run "fault: no displacement" one_live_successor -DF_NOT_DISPLACED "${thief_recovery[@]}"
run "fault: recovery slides" thief_has_lost_for_good -DF_RECOVERY_SLIDES "${thief_recovery[@]}"
run "fault: own write not recognised" honest_client_stays_in -DF_NO_WRITE_ID "${strict[@]}"
run "fault: a lost race is reuse" honest_client_stays_in -DF_NO_RACE "${alone[@]}"
run "fault: newer is reuse" honest_client_stays_in -DF_NO_HEAL "${failover[@]}"
run "fault: heal revives" revocation_is_terminal -DF_HEAL_REVIVES "${logout[@]}"
run "fault: no unrevoked row" known_revocation_is_made_again -DF_NO_DENY "${logout[@]}"
run "fault: no running row" honest_client_stays_in -DF_NO_RUNNING "${stalls[@]}"
run "fault: no recovered row" honest_client_stays_in -DF_NO_RECOVER "${alone[@]}"
run "fault: no renewal of a late write" honest_client_stays_in -DF_NO_LATE "${stalls[@]}"
run "fault: renewal conflict ignored" one_live_successor -DF_RENEWAL_CONFLICT "${thief_slow_recovery[@]}"
run "fault: gives up without a doubt" honest_client_stays_in -DF_GIVES_UP_SILENTLY "${alone[@]}"
run "fault: doubt never settled" thief_is_caught -DF_DOUBT_STAYS "${thief_failures[@]}"
run "fault: running calls never leave" thief_is_caught -DF_NEVER_LEAVES "${thief[@]}"
run "fault: own work taken for another" honest_client_stays_in -DF_NO_MINE "${strict_touched[@]}"
run "fault: name lost by another write" honest_client_stays_in -DF_NAME_LOST "${touched[@]}"
run "fault: caller gone is delivered" honest_client_stays_in -DF_GONE_IS_DELIVERED "${gone[@]}"
run "fault: equal step made afresh" honest_client_stays_in -DF_STEP_AFRESH "${lands[@]}"
run "fault: replayed late, no renewal" honest_client_stays_in -DF_REPLAYED_LATE "${alone[@]}"
run "fault: ending is not carried out" revocation_is_carried_out -DF_NO_ENDINGS "${thief_failures[@]}"
run "fault: received since it was sent" thief_has_lost_for_good -DF_RECEIVED_SINCE_SENT "${thief_heard[@]}"
run "fault: key: does not recover late" honest_client_stays_in -DF_KEY_DOES_NOT_RECOVER "${key_late[@]}"
run "fault: key: unproved is reuse" honest_client_stays_in -DF_UNPROVED_IS_REUSE "${copies[@]}"
run "fault: key: token does not name it" bound_needs_its_key -DF_TOKEN_NAMES_NO_KEY "${copies[@]}" -DLOSSES=1
run "fault: key: no beforeBinding" bound_needs_its_key -DF_NO_BEFORE_BINDING "${puts_off[@]}"
run "fault: key: beforeBinding waits" victim_is_put_off_a_few_times -DF_BEFORE_BINDING_WAITS -DPUT_OFFS=2 "${puts_off[@]}"
run "fault: key: beforeBinding is reuse" honest_client_stays_in -DF_BEFORE_BINDING_IS_REUSE "${key_bare[@]}"
run "fault: key: waits for each recovery" victim_is_put_off_a_few_times -DF_WAITS_FOR_EACH_RECOVERY -DPUT_OFFS=2 "${puts_off[@]}"
run "fault: key: renews for ever" victim_is_put_off_a_few_times -DF_RENEWS_FOR_EVER -DPUT_OFFS=4 "${hangs_up[@]}"
run "fault: key: a doubt is anybody's" bound_needs_its_key -DF_DOUBT_IS_ANYBODYS "${hangs_up[@]}"
run "fault: key: another one is accepted" bound_needs_its_key -DF_OTHER_KEY_ACCEPTED "${rebound[@]}"
run "fault: key: heal drops it" bound_stays_bound -DF_HEAL_DROPS_THE_KEY "${key_failover[@]}"
run "fault: key: a replay binds" one_live_successor -DF_REPLAY_BINDS "${binds_stalls[@]}"

run "limit: tries again too late" honest_client_stays_in -DL_LATE "${alone[@]}"
run "limit: refreshes at once" honest_client_stays_in -DL_EAGER "${alone[@]}"
run "limit: takes replies too late" honest_client_stays_in -DL_PATIENT "${alone[@]}"
run "limit: other instance" honest_client_stays_in -DL_OTHER_INSTANCE "${instances[@]}"
run "limit: renewal fails" honest_client_stays_in -DL_RENEWAL_FAILS "${stalls[@]}"
run "limit: failover loses a renewal" honest_client_stays_in -DFAILURES=1 "${failover[@]}"
run "limit: strict, reply lost" honest_client_stays_in -DL_REPLY_LOST "${strict[@]}"
run "limit: strict, two tabs" honest_client_stays_in "${strict[@]/-DTABS=1/-DTABS=2}"
run "limit: recovery, two at once" honest_client_stays_in -DL_STRADDLE "${recovery[@]}"
run "limit: outage opens a token again" thief_has_lost_for_good -DL_DOUBT "${thief_failures[@]}"
run "limit: successor got elsewhere" thief_has_lost_for_good -DL_HEARD_ELSEWHERE "${thief_instances[@]}"
run "limit: write under way" thief_has_lost_for_good -DL_RUNNING "${thief_stalls[@]}"
run "limit: within the grace" thief_has_lost_for_good -DL_WITHIN_GRACE "${thief[@]}"
run "limit: lost, other instance" nothing_works_after_the_end -DL_REVOCATION_LOST "${logout_instances[@]}"
run "limit: key, in doubt, tab without" honest_client_stays_in -DSTALLS=1 "${key_bare[@]}"
run "limit: key, failover, tab without" honest_client_stays_in -DLOSSES=1 -DBARE_TABS=1 "${key_failover[@]/-DTABS=1/-DTABS=2}"
run "limit: key, two at once" honest_client_stays_in -DL_STRADDLE "${key[@]/-DCALLS=3/-DCALLS=4}"
run "limit: key, thief puts off twice" victim_is_put_off_a_few_times -DPUT_OFFS=1 "${puts_off[@]}"
run "limit: key, thief puts off four times" victim_is_put_off_a_few_times -DPUT_OFFS=3 "${hangs_up[@]}"

model=rights.pml
run "rights scene: alone" none -DCALLS=2
run "rights scene: replies lost" none -DCALLS=2 -DFAILURES=1
run "rights scene: two instances" none -DCALLS=2 -DMANAGERS=2 -DAHEAD=2
run "rights scene: failover" none -DCALLS=2 -DLOSSES=1 -DRAISES=0

run "rights fault: another's epoch" old_rights_are_refused -DF_ANOTHERS_EPOCH -DCALLS=1
run "rights fault: said before a conflict" old_rights_are_refused -DF_SAID_BEFORE -DCALLS=1
run "rights fault: replay never raises" new_rights_are_accepted -DF_REPLAY_NEVER_RAISES -DCALLS=1 -DLOSSES=1 -DRAISES=0

run "rights limit: failover, elsewhere" new_rights_are_accepted -DCALLS=1 -DLOSSES=1 -DRAISES=0 -DMANAGERS=2
run "rights limit: failover in a step-up" old_rights_are_refused -DCALLS=1 -DLOSSES=1
wait

if ! ls "$work"/*/line >/dev/null 2>&1; then
	echo "check: nothing matches $only" >&2
	exit 1
fi
if ls "$work"/*/failed >/dev/null 2>&1; then
	echo "check: not as it should be:" >&2
	cat $(ls "$work"/*/failed | sed 's/failed$/line/') >&2
	exit 1
fi
echo "check: $n searches, all as they should be"
