package proof_test

import (
	"os"
	"testing"

	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }
