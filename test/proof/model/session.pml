/*
 * One session in a store that fails and stalls, the Managers that serve it, an honest client of two
 * tabs, a thief, a logout, and a clock. Client and thief may have a key each. README.md says what
 * is claimed, what is left out, and which scenes check.sh runs.
 *
 * The names are those of rotation.go, deliveries.go and refresh.go, and the rule has the order that
 * it has there. A token is its generation and the key that it was made for, because these two are
 * always one string.
 *
 * A name that begins with F_ is a fault. A name that begins with L_ is a limit: it drops an
 * assumption that a claim needs.
 */

/* What a scene is made of. */
#ifndef TABS
#define TABS 2       /* refreshes of the honest client that can go on at once */
#endif
#ifndef CALLS
#define CALLS 4      /* refreshes by the honest client */
#endif
#ifndef THEFTS
#define THEFTS 0     /* refreshes by the thief; 0: there is no thief */
#endif
#ifndef LOGOUTS
#define LOGOUTS 0
#endif
#ifndef TOUCHES
#define TOUCHES 0    /* writes of another instance that leave the generation alone */
#endif
#ifndef TICKS
#define TICKS 4
#endif
#ifndef FAILURES
#define FAILURES 0   /* calls of the store that fail */
#endif
#ifndef STALLS
#define STALLS 0     /* calls of the store that take long */
#endif
#ifndef HANGUPS
#define HANGUPS 0    /* callers that have gone away when their tokens are there */
#endif
#ifndef REFUSALS
#define REFUSALS 0   /* 1: the authorizer can fail, which counts as a failure of the store */
#endif
#ifndef LANDS
#define LANDS 0      /* 1: a write that failed can land later */
#endif
#ifndef LOSSES
#define LOSSES 0     /* failovers */
#endif
#ifndef DEPTH
#define DEPTH 1      /* writes that one of them loses, at most: 1 or 2 */
#endif
#ifndef INSTANCES
#define INSTANCES 1  /* Managers */
#endif
#ifndef GRACE
#define GRACE 2      /* in ticks; 0: strict */
#endif
#ifndef RECOVERY
#define RECOVERY 0   /* in ticks; 0: off */
#endif

#ifndef CLIENT_KEY
#define CLIENT_KEY 0 /* 1: the client proves its key from the login on; 2: gets it later */
#endif
#ifndef BARE_TABS
#define BARE_TABS 0  /* 1: the second tab never proves the client's key */
#endif
#ifndef THIEF_KEY
#define THIEF_KEY 0  /* 1: the thief has a key, and proves it or not */
#endif
#ifndef COPIES_BOUND
#define COPIES_BOUND 0  /* 1: the thief copies no token but one that is bound */
#endif
#ifndef PUT_OFFS
#define PUT_OFFS 255 /* how often the victim of a thief who bound the session gets no verdict */
#endif
#ifndef SERIAL
#define SERIAL 0     /* 1: one request at a time, at once, as many as there are generations for */
#endif

#define KEYS (CLIENT_KEY + THIEF_KEY > 0)
#define CONSUMED (RECOVERY > 2 * GRACE * KEYS -> RECOVERY : 2 * GRACE * KEYS)
#define START (1 + GRACE + RECOVERY + GRACE * KEYS)
#define END (START + TICKS)
#define THIEF TABS
#define HOLDERS (TABS + 1)
#define HONEST_ONLY ((THEFTS == 0 || COPIES_BOUND) && LOGOUTS == 0)

/* The outcomes, as rotation.go has them. Expired is left out. */
#define ROTATED 1
#define HEALED 2
#define REPLAYED 3
#define RENEWED 4
#define RECOVERED 5
#define REUSED 6
#define REVOKED 7
#define UNREVOKED 8
#define RACED 9
#define UNPROVED 10  /* and foreign: the caller gets nothing, and nothing is written */

/* The keys. */
#define NONE 0
#define CLIENTS 1
#define THIEFS 2

/* The authors of a live generation. */
#define SETTLED 0
#define RUNNING 1
#define UNDELIVERED 2
#define MINE 3

/*
 * The WriteID is in two parts: the name of the Manager that made the live generation, and the rest.
 * The rest is the number of the client whose call wrote the record, as long as that call goes on,
 * and 0 after that, because nothing asks for it any more. So one number serves all calls of a
 * client.
 */
typedef Record {
	byte version, generation, predecessor, consumedAt, rotatedAt, name, writeID;
	bit revoked;
	bit era;      /* the rest of the WriteID, for a Swap: whether it is younger than the failover */
	/* For the claims; no decision looks at these. */
	byte made;    /* when the live generation was made, or its grace period began anew */
	byte spent;   /* when the predecessor was first used */
	bit thiefs    /* whether the thief made the live generation */
#if KEYS > 0
	; byte key    /* that the session is bound to */
#endif
};
#define MY_ID (me + 1)         /* of the write that makes a successor */
#define MY_END (me + 1 + 16)   /* of the write that ends the session */

inline copy(to, from) {
	to.version = from.version; to.generation = from.generation;
	to.predecessor = from.predecessor; to.consumedAt = from.consumedAt;
	to.rotatedAt = from.rotatedAt; to.name = from.name; to.writeID = from.writeID;
	to.revoked = from.revoked; to.era = from.era;
	to.made = from.made; to.spent = from.spent; to.thiefs = from.thiefs
#if KEYS > 0
	; to.key = from.key
#endif
}

inline clear(rec) {
	rec.version = 0; rec.generation = 0; rec.predecessor = 0; rec.consumedAt = 0;
	rec.rotatedAt = 0; rec.name = 0; rec.writeID = 0;
	rec.revoked = 0; rec.era = 0; rec.made = 0; rec.spent = 0; rec.thiefs = 0
#if KEYS > 0
	; rec.key = 0
#endif
}

/* The store, what a failover can bring back, and a write that failed and has not landed yet. */
Record stored;
#if LOSSES > 0
Record before[DEPTH];
byte kept;               /* how many of these there are */
#endif
#if LANDS > 0
Record afloat;           /* with the Version that it is to have; 0: there is none */
#endif
byte losses = LOSSES, failures = FAILURES, stalls = STALLS, touches = TOUCHES, hangups = HANGUPS;

/*
 * The Managers' memories: the deny list, the endings, and the deliveries. A generation or a version
 * of 0 means none.
 */
typedef Generations { byte first, last };
bit denied[INSTANCES];
byte ending[INSTANCES];        /* the version of a revocation that is still to be carried out */
Generations doubt[INSTANCES];
bit called[HOLDERS];           /* a call of a client is running */
Generations running[HOLDERS];  /* what it has sent */
byte received[HOLDERS];        /* the highest generation that anybody has received since it began */
#ifdef F_DOUBT_STAYS
Generations stays[INSTANCES];
#endif
#ifdef F_GONE_IS_DELIVERED
byte missed;                   /* the generation that a caller who has gone away did not receive */
#endif
#ifdef F_NEVER_LEAVES
byte stayed[INSTANCES];
#endif

/* The client, and the thief. */
byte calls, thefts;
byte jar, jarSince;
byte underWay[TABS];     /* 1 + the token of a request that no instance has seen yet; 0: none */
byte instanceOf[HOLDERS];
byte tokens[HOLDERS];    /* what a client's request is made with */
#define token tokens[me]
bit isLoading[HOLDERS];    /* the instance's Load is on its way */
bit busy[HOLDERS];       /* a request goes on, until its reply arrives or is lost */
bit stolen;
#if KEYS > 0
byte given[3];           /* by key: a bit for each generation whose token was given to anybody */
byte heldFor[3];         /* of these, the thief's */
#define held (heldFor[NONE] | heldFor[CLIENTS] | heldFor[THIEFS])
byte jarKey = (CLIENT_KEY == 1 -> CLIENTS : NONE);
byte keys[HOLDERS];      /* that a request's token was made for */
byte proofs[HOLDERS];    /* what the request proves */
#define boundTo keys[me]
#define proven proofs[me]
bit hasKey = (CLIENT_KEY == 1);
byte putOffs, putOffAt;  /* of the victim, at least a grace period apart */
#else
byte held;               /* a bit for each generation that the thief has */
#endif
#if defined(HEARD) || defined(L_HEARD_ELSEWHERE)
byte heard;              /* the newest generation that somebody got */
#endif

byte now = START;

/*
 * The claims. Each is set and asserted in one step, so that spin names it. What a request must not
 * be answered for is noted when it is sent, and forgotten when the store loses the reason.
 */
bit one_live_successor = 1;
bit honest_client_stays_in = 1;
bit thief_is_caught = 1;
bit thief_has_lost_for_good = 1;
bit nothing_works_after_the_end = 1;
bit known_revocation_is_made_again = 1;
bit revocation_is_terminal = 1;
bit revocation_is_carried_out = 1;
bit bound_needs_its_key = 1;
bit bound_stays_bound = 1;
bit victim_is_put_off_a_few_times = 1;
bit assumptions_leave_room = 1;  /* no claim: the assumptions never stop client and clock */

#define AS_DISPLACED 1
#define AS_CAUGHT 2
#define AS_SHUT_OUT 4
#define AS_ENDED 8
#define AS_DENIED 16
#define AS_OWED 32
#define AS_PUT_OFF 64
byte barred[HOLDERS];

byte newest;             /* the newest generation ever made: what the thief can steal */
byte displaced;          /* a bit for each generation that a recovery displaced */
bit shutOut;             /* the thief has only tokens older than the live one; no period is open */
bit ended;               /* somebody was told that the session is over */

#define HAS(range, n) (range.first != 0 && range.first <= (n) && (n) <= range.last)
#define ANY_INSTANCE(p) (p(0) || (INSTANCES > 1 && p(INSTANCES - 1)))
#define ANY_TAB(p) (p(0) || (TABS > 1 && p(TABS - 1)))
#define BUSY(who) busy[who]
#define TABS_IDLE (!ANY_TAB(BUSY))
#define THIEF_IDLE (!busy[THIEF])
#define IS_ALONE (!SERIAL || (TABS_IDLE && THIEF_IDLE))
#define MAY_BEGIN (IS_ALONE && (!SERIAL || (newest < 4 && stored.version < 8)))

#ifdef F_GONE_IS_DELIVERED
#define DOUBTED_BY(i) (stored.name == (i) + 1 && stored.generation != 0 && \
	(HAS(doubt[i], stored.generation) || missed == stored.generation))
#else
#define DOUBTED_BY(i) (stored.name == (i) + 1 && HAS(doubt[i], stored.generation))
#endif
#define SENT_BY(who) HAS(running[who], stored.generation)

/*
 * Where a claim about the thief makes an exception: the live generation's token may be given again,
 * because its call is still running, or nobody received it. A tab that is under way can still
 * become such a call, or renew, if there is a grace period or the store can fail.
 */
#define IS_SENT (ANY_TAB(SENT_BY) || SENT_BY(THIEF) || \
	(GRACE + FAILURES + STALLS + HANGUPS > 0 && !TABS_IDLE))
#define MAY_BE_GIVEN_AGAIN (!stored.revoked && (IS_SENT || ANY_INSTANCE(DOUBTED_BY)))
#ifdef L_RUNNING
#define IS_SHUT (!ANY_INSTANCE(DOUBTED_BY))
#else
#ifdef L_DOUBT
#define IS_SHUT (!IS_SENT)
#else
#if defined(HEARD) || defined(L_HEARD_ELSEWHERE)
#define IS_SHUT (!IS_SENT && (heard >= stored.generation || !ANY_INSTANCE(DOUBTED_BY)))
#else
#define IS_SHUT (!MAY_BE_GIVEN_AGAIN)
#endif
#endif
#endif

/* Or somebody may recover, because the session or the token consumed last is bound to their key. */
#if KEYS > 0 && GRACE > 0
#define IS_VICTIM (me != THIEF && stored.key == THIEFS)
#define CLIENT_MAY_RECOVER (token == stored.predecessor && proven == CLIENTS && \
	(stored.key == CLIENTS || (stored.key == NONE && boundTo == CLIENTS)))
#define THIEF_MAY_RECOVER (THIEF_KEY && (1 << stored.predecessor) & \
	(stored.key == CLIENTS -> 0 : heldFor[THIEFS] | (stored.key == THIEFS -> heldFor[NONE] : 0)))
#else
#define IS_VICTIM false
#define CLIENT_MAY_RECOVER false
#define THIEF_MAY_RECOVER false
#endif

/*
 * What is assumed of an honest client that is alone. With a thief or a logout the claims hold of
 * any client.
 *
 * It refreshes when its access token is used up, which lives longer than the grace: not at once. It
 * takes no reply to a request that is older than the grace. A token that has been consumed works no
 * longer when its period closes; until then each request with it has arrived, and the client has
 * tried again and got its successor, or the write that consumed it has not returned, or its call
 * was told to come later. In the last two cases it goes to the instance that made the write. With a
 * recovery period, none of its requests goes on while the grace closes.
 *
 * Once the session is bound to its key, and the key is proved, it comes with the token consumed
 * last whenever it likes. With two tabs, none of its requests goes on while the grace closes, as
 * with a recovery period.
 */
#if HONEST_ONLY && !defined(L_EAGER)
#define LOADS_LONG(tab) (isLoading[tab] && tokens[tab] < jar)
#define REFRESH_IS_DUE (now >= jarSince + GRACE && !ANY_TAB(LOADS_LONG))
#else
#define REFRESH_IS_DUE true
#endif

#if GRACE == 0 || defined(L_PATIENT)
#define STILL_WAITS true
#else
#define STILL_WAITS (now < sentAt + GRACE)
#endif
#if GRACE == 0 && !defined(L_REPLY_LOST)
#define MAY_GET_LOST false
#else
#define MAY_GET_LOST true
#endif

#define WRITES_AT(who, i) (stored.writeID == (who) + 1 && instanceOf[who] == (i) && \
	received[who] < stored.generation)
#if TABS > 1
#define WRITER_RUNS_AT(i) (GRACE > 0 && (WRITES_AT(0, i) || WRITES_AT(1, i)))
#else
#define WRITER_RUNS_AT(i) (GRACE > 0 && WRITES_AT(0, i))
#endif
#define KNOWS(token, i, proof) ((token) == stored.predecessor && IS_PROVED(proof) && \
	(DOUBTED_BY(i) || WRITER_RUNS_AT(i)))

#define IS_FRESH(token) ((token) >= stored.generation || now + 1 < stored.rotatedAt + GRACE)
#if KEYS > 0
#define KEY_WORKS(token, made, proof) (GRACE > 0 && (token) == stored.predecessor && \
	(stored.key == CLIENTS && (made == CLIENTS || proof == CLIENTS) || \
	 stored.key == NONE && made == CLIENTS && proof == CLIENTS))
#define IS_PROVED(proof) (stored.key == NONE || proof == CLIENTS)
#define TAB_PROOF(tab) proofs[tab]
#define JAR_PROOF (hasKey * !BARE_TABS)
#define TAB_KEY_WORKS(tab) KEY_WORKS(underWay[tab] - 1, keys[tab], TAB_PROOF(tab))
#define JAR_KEY_WORKS KEY_WORKS(jar, jarKey, JAR_PROOF)
#else
#define IS_PROVED(proof) true
#define TAB_PROOF(tab) NONE
#define JAR_PROOF NONE
#define TAB_KEY_WORKS(tab) false
#define JAR_KEY_WORKS false
#endif
#define WORKS(token, i, proof) \
	(IS_FRESH(token) || now + 1 < stored.consumedAt + RECOVERY || KNOWS(token, i, proof))
#define JAR_WORKS(i) (JAR_KEY_WORKS || WORKS(jar, i, JAR_PROOF))
#ifdef L_PATIENT
#define TRIES_AGAIN (ANY_INSTANCE(JAR_WORKS) || !(REFRESH_IS_DUE))  /* a late reply looks new */
#else
#define TRIES_AGAIN ANY_INSTANCE(JAR_WORKS)
#endif
#define ARRIVES(tab) (underWay[tab] == 0 || \
	(underWay[tab] - 1 >= jar && \
		(TAB_KEY_WORKS(tab) || WORKS(underWay[tab] - 1, instanceOf[tab], TAB_PROOF(tab)))) || \
	(IS_FRESH(underWay[tab] - 1) && now + 1 < jarSince + GRACE))
#if !HONEST_ONLY || GRACE == 0 || defined(L_LATE)
#define TIME_MAY_PASS true
#else
#define CLOSES (now + 1 == stored.rotatedAt + GRACE)
#ifdef L_STRADDLE
#define CROSSES false
#else
#if RECOVERY > 0 || KEYS > 0
#define CROSSES (CLOSES && !TABS_IDLE)
#else
#define CROSSES (CLOSES && !TABS_IDLE && ANY_INSTANCE(DOUBTED_BY))
#endif
#endif
#if TABS > 1
#define TIME_MAY_PASS (stored.revoked || (TRIES_AGAIN && ARRIVES(0) && ARRIVES(1) && !CROSSES))
#else
#define TIME_MAY_PASS (stored.revoked || (TRIES_AGAIN && ARRIVES(0) && !CROSSES))
#endif
#endif

#if HONEST_ONLY && GRACE > 0 && INSTANCES > 1 && !defined(L_OTHER_INSTANCE)
#define GOES_TO(i) (me == THIEF || token >= stored.generation || now < stored.rotatedAt + GRACE || \
	now < stored.consumedAt + RECOVERY || JAR_KEY_WORKS || KNOWS(token, i, JAR_PROOF) || \
	RUNS_AT(0, i) || RUNS_AT(TABS - 1, i))
#define RUNS_AT(who, i) (stored.writeID == (who) + 1 && instanceOf[who] == (i))
#else
#define GOES_TO(i) true
#endif

/* ---- deliveries.go ---- */

/* What is known of the session before the record is loaded. A call does not count itself. */
inline with(range, other) {
	range.last = (other.last > range.last -> other.last : range.last);
	range.first = (range.first == 0 || (other.first != 0 && other.first < range.first) -> \
		other.first : range.first)
}

inline look() {
	others(0);
#if TABS > 1
	others(1);
#endif
#if THEFTS > 0
	others(THIEF);
#endif
	knownDoubt.first = doubt[instanceOf[me]].first; knownDoubt.last = doubt[instanceOf[me]].last
}

inline others(who) {
	if
	:: who != me && instanceOf[who] == instanceOf[me] && running[who].first != 0 ->
		with(knownRunning, running[who])
	:: else
	fi
}

inline forgetKnown() {
	knownRunning.first = 0; knownRunning.last = 0; knownDoubt.first = 0; knownDoubt.last = 0
}

inline send() {
	running[me].first = (running[me].first == 0 || generation < running[me].first -> \
		generation : running[me].first);
	running[me].last = (generation > running[me].last -> generation : running[me].last)
#ifdef HEARD
	/* A late replay is written as a renewal, and its client has to hear of the successor, too. */
	; heard = (what == RENEWED && generation <= heard -> generation - 1 : heard)
#endif
}

inline withdraw() { running[me].first = 0; running[me].last = 0 }

/* What a call has sent, and nobody has received. */
#ifdef F_GIVES_UP_SILENTLY
#define IS_IN_DOUBT false
#else
#define IS_IN_DOUBT (running[me].first != 0 && running[me].last > received[me])
#endif

inline leave(i) {
#ifdef F_NEVER_LEAVES
	stayed[i] = (running[me].last > 0 -> running[me].last : stayed[i]);
#endif
	if
	:: IS_IN_DOUBT ->
		running[me].first = (running[me].first > received[me] ->
			running[me].first : received[me] + 1);
		with(doubt[i], running[me]);
		forgetDoubt(i)
#ifdef F_DOUBT_STAYS
		; stays[i].first = running[me].first; stays[i].last = running[me].last
#endif
	:: else
	fi;
	withdraw();
	called[me] = 0; received[me] = 0
}

/* What a call makes is newer than its token, so that older ones do not matter to it. */
#ifdef F_RECEIVED_SINCE_SENT
#define IS_CALLED(who) (running[who].first != 0)
#else
#define IS_CALLED(who) called[who]
#endif
inline receive(who, n) {
	received[who] = (IS_CALLED(who) && instanceOf[who] == instanceOf[me] && n > tokens[who] && \
		n > received[who] -> n : received[who])
}

inline deliver(i, n) {
	receive(0, n);
#if TABS > 1
	receive(1, n);
#endif
#if THEFTS > 0
	receive(THIEF, n);
#endif
	if
	:: doubt[i].last <= n -> doubt[i].first = 0; doubt[i].last = 0
	:: doubt[i].last > n && doubt[i].first <= n -> doubt[i].first = n + 1
	:: else
	fi
}

/* A doubt of which no record can come back is as good as none. */
inline forgetDoubt(i) {
	if
	:: losses == 0 && LANDS == 0 && (doubt[i].last < stored.generation || stored.revoked) ->
		doubt[i].first = 0; doubt[i].last = 0
	:: else
	fi
}

inline forgetDoubts() {
	forgetDoubt(0)
#if INSTANCES > 1
	; forgetDoubt(1)
#endif
}

#ifdef F_NEVER_LEAVES
#define CALL_RUNS (HAS(knownRunning, generation) || stayed[instanceOf[me]] == generation)
#else
#define CALL_RUNS HAS(knownRunning, generation)
#endif
#ifdef F_DOUBT_STAYS
#define GAVE_UP HAS(stays[instanceOf[me]], generation)
#else
#define GAVE_UP HAS(knownDoubt, generation)
#endif
#define author \
	(mine                                                -> MINE        : \
	(token != predecessor || name != instanceOf[me] + 1  -> SETTLED     : \
	(CALL_RUNS                                           -> RUNNING     : \
	(GAVE_UP                                             -> UNDELIVERED : \
	                                                        SETTLED))))

/* ---- endings.go ---- */

/* Of two, the one is kept that is void last. */
inline endLater(i, version_) {
	ending[i] = (version_ > ending[i] -> version_ : ending[i])
}

/* Another write has come first: the ending was decided for the record before, and is void. */
inline dropVoid(i) {
	ending[i] = (version >= ending[i] && !revoked -> 0 : ending[i])
}

/* ---- rotation.go ---- */

#define within(now, from, period) ((now) < (from) + (period))
#define sooner(t, u) ((u) < (t) -> (u) : (t))
#define isLate (GRACE > 0 && 2 * (now - rotatedAt) > GRACE)

#ifdef F_HEAL_REVIVES
#define IS_REVOKED (revoked && token <= generation)
#else
#define IS_REVOKED revoked
#endif
#ifdef F_NO_HEAL
#define IS_NEWER false
#else
#define IS_NEWER (token > generation)
#endif
#ifdef F_GRANDPARENT
#define IS_OLDER (token + 2 < generation)
#else
#define IS_OLDER (token != predecessor)
#endif
#ifdef F_PARENT_ALWAYS
#define IN_GRACE(at) true
#else
#define IN_GRACE(at) within(at, rotatedAt, GRACE)
#endif

#define judge(at) \
	(IS_REVOKED                         -> REVOKED   : \
	(token == generation                -> ROTATED   : \
	(IS_NEWER                           -> HEALED    : \
	(IS_OLDER                           -> REUSED    : \
	(IN_GRACE(at)                       -> REPLAYED  : \
	(within(at, consumedAt, RECOVERY)   -> RECOVERED : \
	                                       REUSED))))))

#define overtaken (good && generation > reached && GRACE > 0)

#ifdef F_NO_DENY
#define IS_DENIED false
#else
#define IS_DENIED denied[instanceOf[me]]
#endif
#ifdef F_NO_ENDINGS
#define KNOWN (IS_DENIED && !revoked)
#else
#define KNOWN ((IS_DENIED || ending[instanceOf[me]] != 0) && !revoked)
#endif
#ifdef F_NO_RACE
#define IS_RACED false
#else
#define IS_RACED (what == REUSED && good && GRACE > 0)
#endif

inline decide() {
	what = judge((overtaken -> sooner(presented, rotatedAt) : presented));
	byKey();
	dropVoid(instanceOf[me]);
	if
	:: KNOWN -> what = (what == REUSED && !good -> REUSED : UNREVOKED)
	:: else ->
		byAuthor(presented);
		what = (IS_RACED -> RACED : what)
	fi
}

/* What byKey and beforeBinding say, and the key that the session has after that. */
#if KEYS > 0
#ifdef F_TOKEN_NAMES_NO_KEY
#define madeFor NONE
#else
#define madeFor boundTo
#endif
#define isGenuine (madeFor == NONE || madeFor == proven || madeFor == key)
#ifdef F_DOUBT_IS_ANYBODYS
#define mayBeGiven true
#else
#define mayBeGiven holds
#endif
#define holds (key == NONE || key == proven)
#ifdef F_KEY_DOES_NOT_RECOVER
#define ROW_LOST false
#else
#define ROW_LOST (what == REUSED && token == predecessor && key + madeFor != NONE && GRACE > 0)
#endif
#ifdef F_WAITS_FOR_EACH_RECOVERY
#define FIRST_RECOVERY true
#else
#define FIRST_RECOVERY (generation <= predecessor + 2)
#endif
#define WAITS (what == REPLAYED || (token == predecessor && author == RUNNING && GRACE > 0))
#ifdef F_NO_BEFORE_BINDING
#define beforeBinding what
#else
#ifdef F_BEFORE_BINDING_WAITS
#define beforeBinding UNPROVED
#else
#ifdef F_BEFORE_BINDING_IS_REUSE
#define beforeBinding REUSED
#else
#define beforeBinding (FIRST_RECOVERY && WAITS -> UNPROVED : REUSED)
#endif
#endif
#endif
#ifdef F_UNPROVED_IS_REUSE
#define NO_PROOF REUSED
#else
#define NO_PROOF UNPROVED
#endif
#ifdef F_OTHER_KEY_ACCEPTED
#define OTHER_KEY what
#else
#define OTHER_KEY REUSED
#endif

inline byKey() {
	what = \
		(what == REVOKED      -> REVOKED       : \
		(holds && ROW_LOST    -> RECOVERED     : \
		(holds                -> what          : \
		(madeFor == NONE      -> beforeBinding : \
		(madeFor != proven    -> NO_PROOF      : \
		                         OTHER_KEY)))))
}

#ifdef F_HEAL_DROPS_THE_KEY
#define BINDS (what == ROTATED || what == RECOVERED)
#else
#ifdef F_REPLAY_BINDS
#define BINDS isGranted
#else
#define BINDS (what == ROTATED || what == HEALED || what == RECOVERED)
#endif
#endif
#define keyAfter (key == NONE && BINDS -> proven : key)

#ifdef F_RENEWS_FOR_EVER
#define renewable(at) true
#else
#define renewable(at) (key == NONE || within(at, consumedAt, 2 * GRACE))
#endif
#else
inline byKey() { skip }
#define mayBeGiven true
#define renewable(at) true
#endif

/* The rows of byAuthor, and faults that leave one out. */
#ifdef F_NO_RUNNING
#define ROW_RUNNING false
#else
#define ROW_RUNNING (author == RUNNING && GRACE > 0 && (what == REUSED || what == RECOVERED))
#endif
#ifdef F_REPLAYED_LATE
#define ROW_LATE false
#else
#define ROW_LATE (author == RUNNING && what == REPLAYED && isLate)
#endif
#define ROW_MINE (author == MINE && (what == REUSED || what == RECOVERED))
#define ROW_RENEW(at) (author == UNDELIVERED && what == REPLAYED && renewable(at))
#ifdef F_NO_RECOVER
#define ROW_RECOVER false
#else
#define ROW_RECOVER (author == UNDELIVERED && what == REUSED)
#endif

inline byAuthor(at) {
	what = \
		(token != predecessor -> what       : \
		(!(mayBeGiven)        -> what       : \
		(ROW_MINE             -> REPLAYED   : \
		(ROW_LATE             -> RENEWED    : \
		(ROW_RUNNING          -> RENEWED    : \
		(ROW_RENEW(at)        -> RENEWED    : \
		(ROW_RECOVER          -> RECOVERED  : \
		                         what)))))))
}

#define isGranted \
	(what == ROTATED || what == HEALED || what == RECOVERED || what == REPLAYED || what == RENEWED)

/* What the loaded record becomes, stamped with the time of the step. */
inline next() {
	if
	:: what == ROTATED || what == HEALED ->
		predecessor = token; consumedAt = stamp * (RECOVERY + KEYS > 0); generation = token + 1
	:: what == RECOVERED ->
#ifdef F_NOT_DISPLACED
		predecessor = generation;
#endif
#ifdef F_RECOVERY_SLIDES
		consumedAt = stamp;
#endif
		generation = generation + 1
	:: what == RENEWED ->
		skip
	fi;
	rotatedAt = stamp
}

#ifdef F_NO_LATE
#define WRITE_WAS_LATE false
#else
#define WRITE_WAS_LATE isLate
#endif

/* ---- the store ---- */

#ifdef F_NO_CAS
#define FITS true
#else
#ifdef F_VERSION_ONLY
#define FITS (stored.version == version && stored.era == era)
#else
#ifdef F_HEAL_REVIVES
#define FITS (stored.version == version && stored.era == era && \
	(!stored.revoked || (what == HEALED && sent != END_SENT)))
#else
#define FITS (stored.version == version && stored.era == era && !stored.revoked)
#endif
#endif
#endif

/* A store may take the second of two equal writes for the first, which has landed meanwhile. */
#define IS_SAME_WRITE (stored.version == version + 1 && stored.writeID == MY_ID && !stored.revoked)

#define UNBAR(who) barred[who] = barred[who] & (255 - AS_OWED)

/* Before each write: keeps what a failover can bring back. */
inline push() {
#if LOSSES > 0
	if
	:: losses > 0 ->
#if DEPTH > 1
		copy(before[1], before[0]);
#endif
		copy(before[0], stored);
		kept = (kept < DEPTH -> kept + 1 : DEPTH)
	:: else
	fi;
	stored.era = (losses < LOSSES);
#endif
	UNBAR(0);
	UNBAR(TABS - 1);
	UNBAR(THIEF)
}

/* Swaps a successor, of which generation, predecessor, consumedAt and rotatedAt say what it is. */
inline apply() {
	revocation_is_terminal = !stored.revoked; assert(revocation_is_terminal);
	push();
	if
	:: what == RECOVERED -> displaced = displaced | (1 << stored.generation)
	:: what == ROTATED || what == HEALED -> stored.spent = now * (RECOVERY > 0)
	:: else
	fi;
	if
	:: what != RENEWED -> stored.thiefs = (me == THIEF)
	:: else
	fi;
	stored.generation = generation;
	stored.predecessor = predecessor;
	stored.consumedAt = consumedAt;
	stored.rotatedAt = rotatedAt;
	stored.made = now * (THEFTS > 0);
	stored.name = instanceOf[me] + 1;
	stored.writeID = MY_ID;
#if KEYS > 0
	stored.key = key;
	bound_stays_bound = (boundTo == NONE || boundTo != proven || boundTo == key || what == RENEWED);
	assert(bound_stays_bound);
#endif
	stored.revoked = 0;
	stored.version = version + 1; era = stored.era;
	one_live_successor = (losses < LOSSES || generation >= newest); assert(one_live_successor);
	newest = (generation > newest -> generation : newest);
	forgetDoubts()
}

inline revoke() {
	push();
	stored.revoked = 1; stored.writeID = MY_END; stored.version = version + 1
}

/* Nothing asks any more for the WriteIDs of a call that is over. */
inline forgetWriteID(rec) {
	rec.writeID = (rec.writeID == MY_ID || rec.writeID == MY_END -> 0 : rec.writeID)
}

/* The request is lost, or it reaches the store later. */
inline float() {
#if LANDS > 0
	if
	:: afloat.version == 0 && stored.version == version && !stored.revoked ->
		afloat.version = version + 1;
		afloat.generation = generation; afloat.predecessor = predecessor;
		afloat.consumedAt = consumedAt; afloat.rotatedAt = rotatedAt;
		afloat.name = instanceOf[me] + 1; afloat.writeID = MY_ID; afloat.thiefs = (me == THIEF)
#if KEYS > 0
		; afloat.key = key
#endif
	:: true
	fi
#else
	skip
#endif
}

/* ---- refresh.go ---- */

#if defined(F_NO_WRITE_ID) || defined(F_NO_MINE)
#define IS_MINE false
#else
#define IS_MINE (stored.writeID == MY_ID)
#endif
#define SUCCESSOR_SENT 1
#define END_SENT 2

#ifdef F_NO_WRITE_ID
#define IS_OWN false
#else
#define IS_OWN ((sent == SUCCESSOR_SENT && stored.writeID == MY_ID && \
	stored.version == sentVersion) || (sent == END_SENT && stored.writeID == MY_END))
#endif

inline returns() {
	leave(instanceOf[me]);
	forgetKnown();
	endLater(instanceOf[me], endedAs);
	forgetWriteID(stored);
#if LOSSES > 0
	forgetWriteID(before[0]);
#if DEPTH > 1
	forgetWriteID(before[1]);
#endif
#endif
#if LANDS > 0
	forgetWriteID(afloat);
#endif
	presented = 0; what = 0; good = 0; reached = 0; made = 0; endedAs = 0; renewed = 0; own = 0;
	sent = 0; sentWhat = 0; sentVersion = 0; sentEra = 0; stamp = 0;
	version = 0; era = 0; mine = 0; revoked = 0; forgetRecord()
}

inline done() {
#if KEYS > 0
	boundTo = 0; proven = 0; key = 0;
#endif
	busy[me] = 0; barred[me] = 0; instanceOf[me] = 0; token = 0; sentAt = 0; generation = 0
}

/* The call returns a verdict. The session is over, or so it says. */
inline verdict() {
	honest_client_stays_in = !(HONEST_ONLY); assert(honest_client_stays_in);
	returns(); done()
}

inline over() {
	denied[instanceOf[me]] = 1; ending[instanceOf[me]] = 0; endedAs = 0;
	ended = 1;
	verdict()
}

/* The call returns ErrUnavailable. */
inline giveUp() { returns(); done() }

#if KEYS > 0
/* The call returns ErrProofRequired, or ErrInvalidToken to another client than the key's. */
inline putOff() {
	if
	:: (barred[me] & AS_PUT_OFF) && sentAt >= putOffAt + GRACE ->
		putOffs++; putOffAt = now;
		victim_is_put_off_a_few_times = (putOffs <= PUT_OFFS);
		assert(victim_is_put_off_a_few_times)
	:: else
	fi;
	giveUp()
}
#endif

/* The tokens are sent, unless the caller has gone away. Whether they arrive is another matter. */
inline answer() {
	endedAs = 0;
#if HANGUPS > 0
	if
	:: hangups > 0 && (me == THIEF || !SERIAL) -> hangups = hangups - !SERIAL;
#ifdef F_GONE_IS_DELIVERED
		missed = (IS_IN_DOUBT -> generation : missed);
		deliver(instanceOf[me], generation);
#endif
		returns(); done(); goto end_idle
	:: true
	fi;
#endif
#ifdef F_GONE_IS_DELIVERED
	missed = 0;
#endif
#if KEYS > 0
	bound_needs_its_key = ((boundTo == NONE || boundTo == proven) && (key == NONE || key == proven));
	assert(bound_needs_its_key);
	one_live_successor = (losses < LOSSES || (given[key] & (1 << generation)) || \
		!((given[NONE] | given[CLIENTS] | given[THIEFS]) & (1 << generation)));
	given[key] = given[key] | (1 << generation);
	assert(one_live_successor);
#endif
	one_live_successor = !(barred[me] & AS_DISPLACED); assert(one_live_successor);
	thief_is_caught = !(barred[me] & AS_CAUGHT); assert(thief_is_caught);
	thief_has_lost_for_good = !(barred[me] & AS_SHUT_OUT); assert(thief_has_lost_for_good);
	nothing_works_after_the_end = !(barred[me] & AS_ENDED); assert(nothing_works_after_the_end);
	known_revocation_is_made_again = !(barred[me] & AS_DENIED);
	assert(known_revocation_is_made_again);
	revocation_is_carried_out = !(barred[me] & AS_OWED); assert(revocation_is_carried_out);
	deliver(instanceOf[me], generation);
#ifdef HEARD
	heard = (generation > heard -> generation : heard);
#endif
#ifdef L_HEARD_ELSEWHERE
	heard = (generation > heard && stored.name != instanceOf[me] + 1 -> generation : heard);
#endif
	returns()
}

/*
 * A step's record is in the store: version and rotatedAt are the record's. After a slow write the
 * grace period begins anew, in one step, because that may take a second at most.
 */
inline wrote() {
	if
	:: WRITE_WAS_LATE && !renewed && (what != REPLAYED || mine) ->
		renewed = 1;
		if
		:: stored.version == version && stored.era == era && !stored.revoked ->
			push();
			stored.rotatedAt = now; stored.made = now * (THEFTS > 0);
			stored.version = version + 1
		:: stored.version != version || stored.era != era || stored.revoked ->
#ifdef F_RENEWAL_CONFLICT
			one_live_successor = (losses < LOSSES || !(displaced & (1 << generation)));
			assert(one_live_successor)
#else
			sent = 0; forgetAttempt(); goto again
#endif
#if !HONEST_ONLY || defined(L_RENEWAL_FAILS)
		:: failures > 0 -> failures--
#endif
		fi
	:: else
	fi;
	answer();
	goto reply
}
inline load() {
	version = stored.version; era = stored.era;
	generation = stored.generation; predecessor = stored.predecessor;
	consumedAt = stored.consumedAt; rotatedAt = stored.rotatedAt; name = stored.name;
	revoked = stored.revoked;
#if KEYS > 0
	key = stored.key;
#endif
	own = IS_OWN; mine = IS_MINE
}

#ifdef F_STEP_AFRESH
#define IS_EQUAL_STEP false
#else
#define IS_EQUAL_STEP (sent == SUCCESSOR_SENT && sentWhat == what && sentVersion == version + 1)
#endif

inline forgetRecord() { predecessor = 0; consumedAt = 0; rotatedAt = 0; name = 0 }

/* What a replay is when it is answered, which may be later. */
#if defined(F_REPLAYED_LATE) || defined(F_ANSWERED_LATE)
#define IS_OVER false
#else
#define IS_OVER (!within(now, rotatedAt, GRACE))
#endif
inline answeredAs() {
	if
	:: what == REPLAYED && mine
	:: what == REPLAYED && !mine && IS_OVER -> what = (renewable(now) -> RENEWED : RACED)
	:: what == REPLAYED && !mine && !IS_OVER -> look(); byAuthor(now)
	:: else
	fi;
	forgetKnown();
	name = 0;
	rotatedAt = (mine -> rotatedAt : 0)
}

/* What an attempt does with the loaded record, up to the authorizer. */
inline attempt() {
	if
	:: own && sent == END_SENT -> over(); goto end_idle
	:: own && sent != END_SENT -> wrote()
	:: else
	fi;
#if KEYS > 0
	if
	:: !(isGenuine) -> verdict(); goto end_idle
	:: else
	fi;
#endif
	endedAs = (version >= endedAs -> 0 : endedAs);
	decide();
	if
	:: !good && isGranted -> good = 1; reached = generation
	:: else
	fi;
	if
	:: what == RACED -> giveUp(); goto end_idle
#if KEYS > 0
	:: what == UNPROVED -> putOff(); goto end_idle
#endif
	:: what == REVOKED ->
		denied[instanceOf[me]] = 1; ending[instanceOf[me]] = 0; endedAs = 0;
		verdict(); goto end_idle
#ifdef F_REUSE_SPARES
	:: what == REUSED -> ended = 1; verdict(); goto end_idle
#endif
	:: else
	fi;
	/* Only what is still needed is kept. */
	forgetKnown();
#if KEYS > 0
	key = (isGranted -> keyAfter : 0);
#endif
	own = 0; revoked = 0; mine = mine && what == REPLAYED;
	if
	:: what == REPLAYED
	:: what == RECOVERED || what == RENEWED -> name = 0; rotatedAt = 0
	:: else -> generation = 0; forgetRecord()
	fi;
#ifndef F_HEAL_REVIVES
	what = (what == HEALED -> ROTATED : what);
#endif
	what = (what == UNREVOKED -> REUSED : what);
	/* plan: an equal step is sent again as it was. */
	if
	:: IS_EQUAL_STEP -> era = sentEra
	:: else -> stamp = 0
	fi;
	sent = 0; sentWhat = 0; sentVersion = 0; sentEra = 0
}

inline forgetAttempt() {
	forgetKnown();
#if KEYS > 0
	key = 0;
#endif
	mine = 0; era = 0; what = 0; version = 0; generation = 0;
	predecessor = 0; consumedAt = 0; rotatedAt = 0
}

/* ErrConflict. If each write of the call met one, none can be in the store. */
inline conflict() {
	if
	:: !made -> withdraw()
	:: else
	fi;
#if LOSSES == 0
	sentWhat = 0; sentVersion = 0; sentEra = 0; stamp = 0;  /* the version never comes back */
#endif
	forgetAttempt()
}

#if KEYS > 0
/* A token of those whose generations have a bit. */
inline choose(from) {
	token = 0;
	do
	:: !(from & (1 << token)) -> token++
	:: from >> (token + 1) -> token++
	:: from & (1 << token) -> break
	od
}
#endif

proctype Holder(byte me) {
	byte presented, sentAt, what, sent, reached;
	byte version, generation, predecessor, consumedAt, rotatedAt, name;
	byte sentWhat, sentVersion, stamp;  /* the step that was sent, its record's version, and when */
	bit revoked, own, mine, good, renewed, era, sentEra;
	Generations knownRunning, knownDoubt;
	bit made;      /* a successor of the call may be in the store */
	byte endedAs;  /* the version of its revocation that may be in the store; 0: there is none */
#if KEYS > 0
	byte key;      /* of the record, and then of what the attempt makes of it */
#endif

#if THEFTS > 0
	if
	:: me == THIEF ->
end_steal:	atomic {
#if KEYS > 0
			!stolen && (given[CLIENTS] != 0 || (given[NONE] != 0 && !COPIES_BOUND)) ->
			stolen = 1;
			if
			:: given[CLIENTS] != 0 -> key = CLIENTS
			:: given[NONE] != 0 && !COPIES_BOUND -> key = NONE
			fi;
			choose(given[key]);
			heldFor[key] = 1 << token;
			key = NONE;
#else
			!stolen ->
			stolen = 1;
			do
			:: token < newest -> token++
			:: break
			od;
			held = 1 << token;
#endif
			token = 0
		}
	:: else
	fi;
#endif

	/* The tabs are alike: the second one takes what comes while the first one is busy. */
end_idle:
	atomic {
		if
		:: me == 0 && calls < CALLS && REFRESH_IS_DUE && MAY_BEGIN ->
			calls = calls + !SERIAL; token = jar
#if TABS > 1
		:: me == 1 && busy[0] && calls < CALLS && REFRESH_IS_DUE -> calls++; token = jar
#endif
#if THEFTS > 0
		:: me == THIEF && thefts < THEFTS && MAY_BEGIN ->
			thefts = thefts + !SERIAL;
#if KEYS > 0
			if
			:: heldFor[NONE] != 0 -> boundTo = NONE
			:: heldFor[CLIENTS] != 0 -> boundTo = CLIENTS
			:: heldFor[THIEFS] != 0 -> boundTo = THIEFS
			fi;
			choose(heldFor[boundTo])
#else
			if
			:: held & 1 -> token = 0
			:: held & 2 -> token = 1
			:: held & 4 -> token = 2
			:: held & 8 -> token = 3
			:: held & 16 -> token = 4
			:: held & 32 -> token = 5
			:: held & 64 -> token = 6
			:: held & 128 -> token = 7
			fi
#endif
#endif
		fi;
#if KEYS > 0
		if
		:: me != THIEF -> boundTo = jarKey; proven = hasKey * (me == 0 || !BARE_TABS)
		:: me == THIEF && !SERIAL
		:: me == THIEF && THIEF_KEY -> proven = THIEFS
		fi;
#endif
		if
		:: GOES_TO(0) -> instanceOf[me] = 0
#if INSTANCES > 1
		:: GOES_TO(1) -> instanceOf[me] = 1
#endif
		:: HONEST_ONLY && !GOES_TO(0) && (INSTANCES == 1 || !GOES_TO(1))
		fi;
		sentAt = now;
		barred[me] = AS_PUT_OFF * IS_VICTIM |
			AS_DISPLACED * ((displaced & (1 << token)) && losses == LOSSES) |
			AS_SHUT_OUT * (me == THIEF && shutOut) |
			AS_ENDED * ended |
			AS_DENIED * denied[instanceOf[me]] |
			AS_OWED * (ending[instanceOf[me]] > stored.version && !stored.revoked) |
			AS_CAUGHT * (me != THIEF && RECOVERY == 0 && stored.thiefs && !stored.revoked &&
				token < stored.generation && now >= stored.made + GRACE && THIEF_IDLE &&
				!CLIENT_MAY_RECOVER && !MAY_BE_GIVEN_AGAIN);
		busy[me] = 1;
		if
		:: me != THIEF -> underWay[me] = token + 1
		:: else
		fi
	}

again:
	atomic { /* Load and decide. */
		if
		:: presented == 0 -> presented = sentAt
		:: presented == 0 && sentAt < now -> presented = now
		:: presented != 0
		fi;
		if
		:: me != THIEF -> underWay[me] = 0
		:: else
		fi;
		called[me] = 1;
		if
		:: failures > 0 -> failures--; giveUp(); goto end_idle
		:: true
		fi;
		look();
#if STALLS > 0
		if
		:: stalls > 0 -> stalls--; isLoading[me] = 1; goto on_its_way
		:: true
		fi;
#endif
		load();
#if STALLS > 0
		if
		:: stalls > 0 -> stalls--; goto loaded
		:: true
		fi;
#endif
		attempt();
		goto decided
	}
#if STALLS > 0
on_its_way:
	atomic { /* The Load was on its way for long. */
		load();
		isLoading[me] = 0;
		attempt();
		goto decided
	}
loaded:
	atomic { /* Its reply was on its way for long: the record may be out of date. */
		attempt()
	}
#endif
decided:
	atomic { /* Authorize and sign, and Swap. */
#if REFUSALS > 0
		if
		:: failures > 0 && what != REUSED -> failures--; giveUp(); goto end_idle
		:: true
		fi;
#endif
		answeredAs();
		if
		:: what == RACED -> giveUp(); goto end_idle
		:: what == REPLAYED ->
#ifdef F_GRACE_SLIDES
			stored.rotatedAt = (stored.version == version -> now : stored.rotatedAt);
#endif
			wrote()
		:: what == REUSED ->
			sent = END_SENT;
			if
			:: FITS -> revoke(); over(); goto end_idle
			:: FITS && failures > 0 -> failures--; endedAs = version + 1; revoke() /* no reply */
			:: failures > 0 -> failures--; endedAs = version + 1 /* no request */
			:: !(FITS) -> /* ErrConflict */
				what = 0; version = 0; era = 0; mine = 0; goto again
			fi;
			goto failed
		:: else
		fi;
		sent = SUCCESSOR_SENT; sentWhat = what; sentVersion = version + 1; sentEra = era;
		stamp = (stamp == 0 -> now : stamp);
		next();
		send();
#if STALLS > 0
		if
		:: stalls > 0 -> stalls--; goto stalled
		:: true
		fi;
#endif
		if
		:: FITS ->
			apply();
			version++;
#if STALLS > 0
			if
			:: stalls > 0 -> stalls--; goto applied
			:: true
			fi;
#endif
			wrote()
		:: FITS && failures > 0 -> failures--; made = 1; apply()
		:: failures > 0 -> failures--; made = 1; float()
#if LANDS > 0
		:: IS_SAME_WRITE -> version++; wrote()
#endif
		:: !(FITS) -> conflict(); goto again
		fi;
		goto failed
	}
#if STALLS > 0
stalled:
	atomic { /* The write was on its way for long. */
		if
		:: FITS -> apply(); version++; goto applied
		:: failures > 0 -> failures--; made = 1; float()
		:: !(FITS) -> conflict(); goto again
		fi;
		goto failed
	}
applied:
	atomic { /* Its reply was on its way for long. */
		if
		:: true -> wrote()
		:: failures > 0 -> failures--; made = 1; goto failed
		fi
	}
#endif

failed:
	atomic { /* It is not known whether the write was applied. */
		forgetAttempt();
		if
		:: giveUp(); goto end_idle
		:: goto again
		fi
	}

reply:
	atomic {
		if
#if KEYS > 0
		:: me == THIEF -> heldFor[key] = heldFor[key] | (1 << generation)
		:: me != THIEF && STILL_WAITS -> jar = generation; jarKey = key; jarSince = now
#else
		:: me == THIEF -> held = held | (1 << generation)
		:: me != THIEF && STILL_WAITS -> jar = generation; jarSince = now
#endif
		:: me != THIEF && (MAY_GET_LOST || !(STILL_WAITS))
		fi;
		done();
		goto end_idle
	}
}

/* Revoke, and with it RevokeToken and RevokeSubject. */
#if LOGOUTS > 0
#ifdef F_NO_CAS
#define FITS_LOGOUT true
#else
#define FITS_LOGOUT (stored.version == version && stored.era == era && !stored.revoked)
#endif

inline told() {
	denied[instance] = 1; ending[instance] = 0; ended = 1;
	instance = 0; version = 0; era = 0; mayBeEnded = 0
}

inline end_session() {
	push();
	stored.version = version + 1;
	stored.revoked = 1;
	stored.writeID = 0
}

proctype Logout() {
	byte instance, version;
	bit era, mayBeEnded;

	if
	:: instance = 0
#if INSTANCES > 1
	:: instance = 1
#endif
	fi;
again:
	atomic {
		if
		:: failures > 0 -> failures--;
			denied[instance] = denied[instance] || mayBeEnded;
			instance = 0; mayBeEnded = 0; goto end
		:: stored.revoked -> told(); goto end
		:: !stored.revoked -> version = stored.version; era = stored.era
		fi
	}
	atomic { /* Swap */
		if
		:: FITS_LOGOUT -> end_session(); told(); goto end
		:: FITS_LOGOUT && failures > 0 -> failures--; mayBeEnded = 1; end_session()
		:: failures > 0 -> failures--; mayBeEnded = 1
		:: !(FITS_LOGOUT)
		fi;
		version = 0; era = 0;
		goto again
	}
end:
	skip
}
#endif

/* Times of which nothing but that they are over can matter are alike. */
inline age(rec) {
	rec.rotatedAt = (now >= rec.rotatedAt + GRACE -> 0 : rec.rotatedAt);
	rec.made = (now >= rec.made + GRACE -> 0 : rec.made);
	rec.consumedAt = (now >= rec.consumedAt + CONSUMED -> 0 : rec.consumedAt);
	rec.spent = (now >= rec.spent + RECOVERY -> 0 : rec.spent)
}

/* What a failover makes of what a request must not be answered for. */
inline forget(who) { barred[who] = barred[who] & (AS_DENIED | AS_OWED | (AS_ENDED * ended)) }

#ifdef L_WITHIN_GRACE
#define GRACE_IS_OVER true
#else
#define GRACE_IS_OVER (now >= stored.made + GRACE)
#endif

/* Time, failovers, and other writers. */
proctype World() {
#if LOSSES > 0
	bit revoked;
#endif
end_world:
	do
#if HONEST_ONLY
	:: atomic { timeout && now < END && calls < CALLS ->
		assumptions_leave_room = 0; assert(assumptions_leave_room)
	   }
#endif
	:: atomic { now < END && TIME_MAY_PASS && IS_ALONE ->
		now++;
#if THEFTS > 0
		shutOut = shutOut || (stolen && THIEF_IDLE && !stored.revoked &&
			(held >> stored.generation) == 0 && GRACE_IS_OVER && IS_SHUT &&
			(RECOVERY == 0 || (now >= stored.spent + RECOVERY && TABS_IDLE) ||
				!(held & (1 << stored.predecessor))) && !THIEF_MAY_RECOVER);
#endif
		jarSince = (now >= jarSince + GRACE -> 0 : jarSince);
		if
		:: TABS_IDLE && THIEF_IDLE ->
#if KEYS > 0
			putOffAt = (now >= putOffAt + GRACE -> 0 : putOffAt);
#endif
			age(stored)
#if LANDS > 0
			; age(afloat)
#endif
#if LOSSES > 0
			; age(before[0])
#if DEPTH > 1
			; age(before[1])
#endif
#endif
		:: else
		fi
	   }
#if CLIENT_KEY == 2
	:: atomic { !hasKey -> hasKey = 1 }
#endif
#if TOUCHES > 0
	/* Another instance changes something else of the session. */
	:: atomic { touches > 0 && !stored.revoked ->
		touches--;
		push();
		stored.version++
#ifdef F_NAME_LOST
		; stored.name = 0
#endif
	   }
#endif
#if LANDS > 0
	:: atomic { afloat.version != 0 ->
		if
		:: afloat.version == stored.version + 1 && !stored.revoked ->
			push();
			displaced = displaced | ((afloat.predecessor < stored.generation && \
				afloat.generation != stored.generation) << stored.generation);
			afloat.made = now * (THEFTS > 0);
			afloat.spent = (afloat.predecessor < stored.generation ->
				stored.spent : now * (RECOVERY > 0));
			afloat.thiefs = (afloat.generation == stored.generation ->
				stored.thiefs : afloat.thiefs);
			copy(stored, afloat);
			one_live_successor = (losses < LOSSES || stored.generation >= newest);
			assert(one_live_successor);
			newest = (stored.generation > newest -> stored.generation : newest)
		:: else
		fi;
		clear(afloat)
	   }
#endif
#if LOSSES > 0
	:: atomic { losses > 0 && kept > 0 ->
		losses--;
		revoked = stored.revoked;
		if
		:: copy(stored, before[0])
#if DEPTH > 1
		:: kept > 1 -> copy(stored, before[1])
#endif
		fi;
		clear(before[0]);
#if DEPTH > 1
		clear(before[1]);
#endif
		kept = 0;
		if
		:: revoked -> stored.revoked = 1  /* this it kept */
#ifdef L_REVOCATION_LOST
		:: revoked
#else
		:: revoked -> ended = 0
#endif
		:: !revoked
		fi;
		displaced = 0; shutOut = 0; revoked = 0;
		forget(0);
#if TABS > 1
		forget(1);
#endif
		forget(THIEF)
	   }
#endif
	od
}

init {
	atomic {
		stored.name = 1;
#if KEYS > 0
		stored.key = jarKey;
		given[jarKey] = 1;
#endif
		run Holder(0);
#if TABS > 1
		run Holder(1);
#endif
#if THEFTS > 0
		run Holder(THIEF);
#endif
#if LOGOUTS > 0
		run Logout();
#endif
		run World()
	}
}
