package examples

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/zalando/go-keyring"
)

// busConfig is that of a bus which starts no services by itself: it would start a second keychain,
// which is locked, for a program that asks before ours is there.
const busConfig = `<busconfig><type>session</type><listen>%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>`

// startKeychain starts the keychain of a Linux desktop, GNOME Keyring, on a bus of its own, with an
// empty keychain that is not locked. It returns what ends it. A process can have it once.
func startKeychain(dir string) (stop func()) {
	address := "unix:path=" + filepath.Join(dir, "bus")
	environment := append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_RUNTIME_DIR="+dir,
		"DBUS_SESSION_BUS_ADDRESS="+address)
	start := func(input, name string, args ...string) *exec.Cmd {
		command := exec.Command(name, args...)
		command.Env, command.Stdin = environment, strings.NewReader(input)
		if err := command.Start(); err != nil {
			panic(fmt.Errorf("the example needs dbus-daemon and gnome-keyring: apt-get install both: %w", err))
		}
		return command
	}
	config := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, address), 0o600); err != nil {
		panic(err)
	}
	bus := start("", "dbus-daemon", "--nofork", "--config-file="+config)
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "bus")); err == nil {
			break
		} else if time.Since(began) > 20*time.Second {
			panic(fmt.Errorf("dbus-daemon does not answer: %w", err))
		}
	}
	keychain := start("password", "gnome-keyring-daemon", "--foreground", "--unlock",
		"--components=secrets", "--control-directory="+dir)
	if err := os.Setenv("DBUS_SESSION_BUS_ADDRESS", address); err != nil {
		panic(err)
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) { // until it is unlocked
		err := keyring.Set("probe", "probe", "probe")
		if err == nil {
			break
		} else if time.Since(began) > 20*time.Second {
			panic(fmt.Errorf("gnome-keyring-daemon does not answer: %w", err))
		}
	}
	return func() {
		for _, command := range []*exec.Cmd{keychain, bus} {
			_ = command.Process.Kill()
			_ = command.Wait()
		}
	}
}
