//go:build unix

package benchmarks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// BenchmarkRemote_revocation reports how long it takes from Revoke's return in one process until
// another process refuses the session's access token. The other one is a service without a store,
// which follows the instance that revokes, straight or through nginx in its default settings; or
// follows two instances that take turns behind nginx, of which one revokes; or is itself an instance
// on the same Redis. All are real times of one run, on one machine.
func BenchmarkRemote_revocation(b *testing.B) {
	server := servers.StartRedis(b, servers.RedisOptions{})
	key := must(tokensession.GenerateKey())
	pem := string(must(key.MarshalPEM()))
	one := instanceOf(b, key, server.Addr)
	url := "http://" + one.serve()
	nginx := servers.StartNginx(b, strings.TrimPrefix(url, "http://"))

	second := startChild(b, childJob{Do: "instance", Key: pem, Redis: server.Addr})
	both := servers.StartNginx(b, strings.TrimPrefix(url, "http://"), second.line(b))
	for _, c := range []struct {
		name string
		job  childJob
	}{
		{"remote/straight", childJob{Do: "remote", Key: pem, URL: url}},
		{"remote/nginx", childJob{Do: "remote", Key: pem, URL: nginx.URL}},
		{"remote/nginxAndTwoInstances", childJob{Do: "remote", Key: pem, URL: both.URL}},
		{"instanceToInstance", childJob{Do: "verify", Key: pem, Redis: server.Addr}},
	} {
		b.Run(c.name, func(b *testing.B) {
			child := startChild(b, c.job)
			var took []time.Duration
			for b.Loop() {
				for range 200 {
					tokens := start(b, one.Manager)
					fmt.Fprintln(child.in, tokens.AccessToken)
					if line := child.line(b); line != "accepted" {
						b.Fatal(line)
					}
					time.Sleep(rand.N(200 * time.Millisecond))
					check(b, one.Revoke(ctx, tokens.Session.ID))
					returned := time.Now().UnixNano()
					refused := must(strconv.ParseInt(child.line(b), 10, 64))
					took = append(took, time.Duration(refused-returned))
				}
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
			b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
			b.ReportMetric(took[len(took)-1].Seconds()*1e3, "max-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkRemote_followers has 10,000 followers wait at one instance, as connections of their own,
// and reports the memory and the processor time of the instance's process: each while nothing
// happens, and at a steady rate of ten revocations a second for half a minute. Memory is what lives
// while nothing happens, and the most that was in use, garbage included, at the steady rate. It also
// reports how long the last revocation needed to reach them all. The followers are goroutines of
// another process.
func BenchmarkRemote_followers(b *testing.B) {
	const followers = 10_000
	server := servers.StartRedis(b, servers.RedisOptions{})
	key := must(tokensession.GenerateKey())
	pem := string(must(key.MarshalPEM()))
	one := instanceOf(b, key, server.Addr)
	child := startChild(b, childJob{Do: "instance", Key: pem, Redis: server.Addr})
	address := child.line(b)
	idle := child.usage(b, afterGC)
	for b.Loop() {
		var told atomic.Int64
		following, stop := context.WithCancel(ctx)
		waiting := make(chan struct{}, followers)
		for range followers {
			go followBare(following, address, waiting, &told)
		}
		for range followers {
			<-waiting
		}
		time.Sleep(time.Second)
		with := child.usage(b, afterGC)
		b.ReportMetric(float64(with.Memory-idle.Memory)/followers/1e3, "kB/follower")

		// While nothing happens, each asks again every 20 seconds.
		time.Sleep(20 * time.Second)
		after := child.usage(b, afterGC)
		b.ReportMetric((after.CPU-with.CPU).Seconds()/20*100, "%-of-a-processor-idle")

		const revocations = 300
		target := told.Load() + revocations*followers
		most, began := int64(0), time.Now()
		var returned time.Time
		pace := time.NewTicker(time.Second / 10)
		for range revocations {
			<-pace.C
			tokens := start(b, one.Manager)
			check(b, one.Revoke(ctx, tokens.Session.ID))
			returned = time.Now()
			most = max(most, child.usage(b, asItIs).Memory)
		}
		pace.Stop()
		for told.Load() < target {
			time.Sleep(time.Millisecond)
		}
		last := time.Since(returned)
		took, busy := time.Since(began), child.usage(b, asItIs)
		b.ReportMetric(float64(most-idle.Memory)/followers/1e3, "kB/follower-10-revocations/s")
		b.ReportMetric((busy.CPU-after.CPU).Seconds()/took.Seconds()*100, "%-of-a-processor-10-revocations/s")
		b.ReportMetric(revocations/took.Seconds(), "revocations/s") // ten, unless the machine is too slow
		b.ReportMetric(last.Seconds()*1e3, "ms-until-all-know-the-last")
		b.ReportMetric(0, "ns/op")
		stop()
	}
}

// followBare follows with no more than what costs the instance something: it parses nothing.
func followBare(ctx context.Context, address string, waiting chan<- struct{}, told *atomic.Int64) {
	transport := &http.Transport{MaxIdleConnsPerHost: 1, DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	cursor, first := "", true
	for ctx.Err() == nil {
		request := must(http.NewRequestWithContext(ctx, http.MethodGet,
			"http://"+address+"/auth/revocations?cursor="+cursor, nil))
		response, err := client.Do(request)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		var info struct {
			Cursor   string
			Snapshot bool
		}
		if json.Unmarshal([]byte(response.Header.Get("Denials")), &info) != nil {
			continue
		}
		if cursor = info.Cursor; first {
			first = false
			waiting <- struct{}{}
		} else if !info.Snapshot {
			told.Add(int64(strings.Count(string(body), "\n") - 1))
		}
	}
}

// A childJob is what a second process of a benchmark does. It is in an environment variable.
type childJob struct {
	Do, Key, Redis, URL string
}

const childEnv = "TOKENSESSION_BENCHMARK_JOB"

func doChildJob(text string) {
	var job childJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		panic(err)
	}
	job.run()
}

// run reads lines of its parent and answers each, until there are no more.
func (j childJob) run() {
	key := must(tokensession.ParseKeyPEM([]byte(j.Key)))
	switch j.Do {
	case "instance":
		one := instanceOf(nil, key, j.Redis)
		fmt.Println(one.serve())
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if lines.Text() == afterGC {
				runtime.GC()
			}
			fmt.Println(string(must(json.Marshal(usageOfThisProcess()))))
		}
	case "verify":
		refusals(instanceOf(nil, key, j.Redis).Verify)
	case "remote":
		remote := must(sessionhttp.NewRemote(j.URL+"/auth", sessionhttp.RemoteConfig{
			Access: tokensession.AccessConfig{
				Issuer: "https://auth.example", Audience: []string{"https://api.example"},
			},
		}))
		go func() { _ = remote.Run(ctx) }()
		for remote.Healthy(ctx) != nil {
			time.Sleep(time.Millisecond)
		}
		refusals(remote.Verify)
	}
}

// refusals reads access tokens, and says of each when it was first refused.
func refusals(verify func(string) (tokensession.Access, error)) {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if _, err := verify(lines.Text()); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("accepted")
		for {
			if _, err := verify(lines.Text()); errors.Is(err, tokensession.ErrRevoked) {
				break
			}
			time.Sleep(50 * time.Microsecond)
		}
		fmt.Println(time.Now().UnixNano())
	}
}

// An instance is a Manager on a Redis that runs and is healthy.
type instance struct{ *tokensession.Manager }

func instanceOf(tb testing.TB, key tokensession.Key, address string) instance {
	client := redis.NewClient(&redis.Options{Addr: address})
	store := must(redisstore.New(client, redisstore.Config{}))
	signer := must(tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	}))
	m := must(tokensession.New(signer, store, tokensession.Config{}))
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(running) }()
	if tb != nil {
		tb.Cleanup(func() {
			stop()
			check(tb, <-ended)
			client.Close()
		})
	} else {
		_ = stop // it runs as long as its process
	}
	for m.Healthy(ctx) != nil {
		time.Sleep(time.Millisecond)
	}
	return instance{m}
}

// serve serves the instance's endpoints as long as the process runs, and returns its address.
func (i instance) serve() string {
	h := must(sessionhttp.New(i.Manager, sessionhttp.Config{
		MayFollow: func(*http.Request) bool { return true },
	}))
	mux := http.NewServeMux()
	h.Mount(mux)
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	go func() { _ = http.Serve(listener, mux) }()
	return listener.Addr().String()
}

// A child is a second process.
type child struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

func startChild(tb testing.TB, job childJob) *child {
	tb.Helper()
	command := exec.Command(must(os.Executable()))
	command.Env = append(os.Environ(), childEnv+"="+string(must(json.Marshal(job))))
	command.Stderr = os.Stderr
	in := must(command.StdinPipe())
	out := must(command.StdoutPipe())
	check(tb, command.Start())
	tb.Cleanup(func() {
		in.Close()
		_ = command.Wait()
	})
	return &child{in, bufio.NewScanner(out)}
}

func (c *child) line(tb testing.TB) string {
	tb.Helper()
	if !c.out.Scan() {
		tb.Fatal("the second process has ended")
	}
	return c.out.Text()
}

// A usage is what a process has used.
type usage struct {
	CPU    time.Duration
	Memory int64 // of the runtime, without what is free, in bytes
}

// What a child is asked for.
const (
	afterGC = "what lives"
	asItIs  = "what is in use"
)

func (c *child) usage(tb testing.TB, what string) (u usage) {
	tb.Helper()
	fmt.Fprintln(c.in, what)
	check(tb, json.Unmarshal([]byte(c.line(tb)), &u))
	return u
}

func usageOfThisProcess() usage {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return usage{spentBySelf(), int64(stats.HeapInuse + stats.StackInuse)}
}

func spentBySelf() time.Duration {
	var self syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &self)
	return time.Duration(self.Utime.Nano() + self.Stime.Nano())
}
