package proof_test

import (
	"context"
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// The story of redisstore's README ends well on a server that is there, and says what is wrong with
// one that is not.
func TestRedisQuickstart_tellsItsStory(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	server := servers.StartRedis(t, servers.RedisOptions{})
	tell := func() (string, error) {
		out, err := osexec.CommandContext(ctx, "go", "-C", "../../redisstore", "run", "./examples/quickstart", "-addr", server.Addr).CombinedOutput()
		return string(out), err
	}
	out, err := tell()
	if err != nil || strings.Contains(out, "WRONG") || strings.Count(out, "ok ") < 15 {
		t.Errorf("%v:\n%s", err, out)
	}
	if n, err := server.Client(nil).DBSize(ctx).Result(); err != nil || n != 0 {
		t.Errorf("it left %d keys, %v", n, err)
	}
	server.Kill()
	if out, err := tell(); err == nil || !strings.Contains(out, "is there a Redis at "+server.Addr) {
		t.Errorf("without a server: %v:\n%s", err, out)
	}
}
