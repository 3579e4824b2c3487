package sessionclient_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// A fileWorld is a program whose access token has expired, with its tokens in a file.
type fileWorld struct {
	*clientWorld
	path      string
	file      *sessionclient.TokenFile
	transport *sessionclient.Transport
}

// newFileWorld saves the tokens to a file that can be written, whatever becomes of it later.
func newFileWorld(t *testing.T, path string) *fileWorld {
	t.Helper()
	w := newClientWorld(t)
	file := sessionclient.NewTokenFile(path)
	require.NoError(t, file.Save(t.Context(), w.expired()))
	return &fileWorld{w, path, file, w.transport(sessionclient.NewTokenFile(path))}
}

// refuses shows that the Transport spends no refresh token, and says why.
func (w *fileWorld) refuses(cause error) {
	w.t.Helper()
	before, err := os.ReadDir(filepath.Dir(w.path))
	require.NoError(w.t, err)
	for range 2 {
		_, _, err := clientGet(context.Background(), w.transport, clientAPIURL)
		require.ErrorIs(w.t, err, tokensession.ErrUnavailable)
		require.ErrorIs(w.t, err, cause)
	}
	require.Zero(w.t, w.refreshes(), "no refresh token was spent")
	require.Empty(w.t, w.toldOfEnd())
	told := w.toldErrors()
	require.NotEmpty(w.t, told)
	require.ErrorIs(w.t, told[len(told)-1], cause)
	require.Equal(w.t, w.start.RefreshToken, loaded(w.t, w.file).RefreshToken)
	after, err := os.ReadDir(filepath.Dir(w.path))
	require.NoError(w.t, err)
	require.Len(w.t, after, len(before), "nothing is left beside the file")
}

// works shows that the Transport refreshes, saves, and that the next start of the program finds
// what was saved. It comes after refuses in some tests, and then the pause after it has to end.
func (w *fileWorld) works() {
	w.t.Helper()
	refreshes, errs := w.refreshes(), len(w.toldErrors())
	require.Eventually(w.t, func() bool {
		_, _, err := clientGet(context.Background(), w.transport, clientAPIURL)
		return err == nil
	}, 10*time.Second, 20*time.Millisecond)
	require.Equal(w.t, refreshes+1, w.refreshes())
	require.NoError(w.t, w.transport.Wait(context.Background()))
	require.Len(w.t, w.toldErrors(), errs)
	saved := loaded(w.t, sessionclient.NewTokenFile(w.path))
	require.NotEqual(w.t, w.start.RefreshToken, saved.RefreshToken)
	w.requireAlive(w.file)
}

func mount(t *testing.T, source, target, kind string, flags uintptr, options string) {
	t.Helper()
	require.NoError(t, syscall.Mount(source, target, kind, flags, options))
}

func bind(t *testing.T, source, target string, readOnly bool) {
	t.Helper()
	mount(t, source, target, "", syscall.MS_BIND, "")
	t.Cleanup(func() { _ = syscall.Unmount(target, syscall.MNT_DETACH) })
	if readOnly {
		mount(t, "", target, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
	}
}

// smallDisk returns a folder on a disk of 64 KiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.Mkdir(dir, 0o700))
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=64k")
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill fills a disk to its last byte.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 512))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	return func() { require.NoError(t, os.Remove(path)) }
}

func TestTokenFile_onAFullDiskNothingIsSpent(t *testing.T) {
	withMounts(t, func(t *testing.T) {
		disk := smallDisk(t)
		w := newFileWorld(t, filepath.Join(disk, "tokens"))
		empty := fill(t, disk)
		w.refuses(syscall.ENOSPC)
		require.ErrorIs(t, w.file.Save(t.Context(), w.login()), syscall.ENOSPC)
		require.Equal(t, w.start.RefreshToken, loaded(t, w.file).RefreshToken)
		empty()
		w.works()

		fill(t, disk)
		require.NoError(t, w.file.Save(t.Context(), tokensession.Tokens{}), "a logout needs no room")
		_, err := w.file.Load(t.Context())
		require.ErrorIs(t, err, sessionclient.ErrNoTokens)
	})
}

// The disk fills up while the refresh runs. The room for its result is taken.
func TestTokenFile_keepsRoomWhileTheRefreshRuns(t *testing.T) {
	for _, inPlace := range []bool{false, true} {
		t.Run(fmt.Sprintf("inPlace=%v", inPlace), func(t *testing.T) {
			withMounts(t, func(t *testing.T) {
				disk := smallDisk(t)
				path := filepath.Join(disk, "tokens")
				if inPlace {
					// A small file, for which the disk has room for no second block.
					require.NoError(t, os.WriteFile(path, []byte("{}"), 0o600))
					mounted := filepath.Join(t.TempDir(), "tokens")
					require.NoError(t, os.WriteFile(mounted, nil, 0o600))
					bind(t, path, mounted, false)
					path = mounted
				}
				w := newClientWorld(t)
				file := sessionclient.NewTokenFile(path)
				transport := w.transport(file)
				old := fmt.Sprintf(`{"refresh_token":%q}`, w.start.RefreshToken) // the result is longer
				require.NoError(t, os.WriteFile(path, []byte(old), 0o600))
				long := strings.Repeat("x", 9<<10)
				w.setAPI(func(rw http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {})
				w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
					fill(t, disk)
					clientJSON(rw, 200, map[string]any{
						"access_token": long, "token_type": "Bearer", "expires_in": 900, "refresh_token": "r",
					})
				})
				_, _, err := clientGet(t.Context(), transport, clientAPIURL)
				require.NoError(t, err)
				require.NoError(t, transport.Wait(t.Context()))
				require.Empty(t, w.toldErrors())
				require.Equal(t, long, loaded(t, file).AccessToken)
			})
		})
	}
}

func TestTokenFile_onAReadOnlyMountNothingIsSpent(t *testing.T) {
	withMounts(t, func(t *testing.T) {
		dir := t.TempDir()
		w := newFileWorld(t, filepath.Join(dir, "tokens"))
		bind(t, dir, dir, true)
		w.refuses(syscall.EROFS)
		require.ErrorIs(t, w.file.Save(t.Context(), tokensession.Tokens{}), syscall.EROFS)
		require.NoError(t, syscall.Unmount(dir, 0))
		w.works()
	})
}

// A container has the token file as a mount of its own. No rename can replace it.
func TestTokenFile_thatIsMountedByItselfIsWrittenInPlace(t *testing.T) {
	for _, readOnlyFolder := range []bool{false, true} {
		t.Run(fmt.Sprintf("readOnlyFolder=%v", readOnlyFolder), func(t *testing.T) {
			withMounts(t, func(t *testing.T) {
				outside, dir := filepath.Join(t.TempDir(), "tokens"), filepath.Join(t.TempDir(), "with a space")
				require.NoError(t, os.Mkdir(dir, 0o700))
				require.NoError(t, os.WriteFile(outside, []byte("{}"), 0o600))
				path := filepath.Join(dir, "tokens")
				require.NoError(t, os.WriteFile(path, nil, 0o600))
				if readOnlyFolder {
					bind(t, dir, dir, true)
				}
				bind(t, outside, path, false)
				before, err := os.Stat(outside)
				require.NoError(t, err)
				w := newFileWorld(t, path)
				w.works()
				w.worksAgain()
				entries, err := os.ReadDir(dir)
				require.NoError(t, err)
				require.Len(t, entries, 1)
				after, err := os.Stat(outside)
				require.NoError(t, err)
				require.True(t, os.SameFile(before, after))
				require.Equal(t, before.Mode(), after.Mode())
				require.Equal(t, loaded(t, w.file), loaded(t, sessionclient.NewTokenFile(outside)))

				require.NoError(t, w.file.Save(t.Context(), tokensession.Tokens{}))
				_, err = w.file.Load(t.Context())
				require.ErrorIs(t, err, sessionclient.ErrNoTokens)
				left, err := os.ReadFile(outside)
				require.NoError(t, err)
				require.Equal(t, "{}", strings.TrimRight(string(left), " "), "no token is left")
				require.NoError(t, w.file.Save(t.Context(), w.login()))
				w.requireAlive(w.file)
			})
		})
	}
}

// worksAgain is works once more, with a token that has expired again.
func (w *fileWorld) worksAgain() {
	w.t.Helper()
	tokens := loaded(w.t, w.file)
	tokens.AccessExpiresAt = time.Now()
	require.NoError(w.t, w.file.Save(context.Background(), tokens))
	w.works()
}

func TestTokenFile_thatIsMountedReadOnlyIsNotSpent(t *testing.T) {
	withMounts(t, func(t *testing.T) {
		outside, path := filepath.Join(t.TempDir(), "tokens"), filepath.Join(t.TempDir(), "tokens")
		w := newFileWorld(t, path)
		require.NoError(t, sessionclient.NewTokenFile(outside).Save(t.Context(), w.expired()))
		bind(t, outside, path, true) // the folder can be written
		w.refuses(syscall.EROFS)
		require.NoError(t, syscall.Unmount(path, 0))
		w.works()
	})
}

// An administrator has made the file immutable with chattr. Not even root can replace it.
func TestTokenFile_thatIsImmutableIsNotSpent(t *testing.T) {
	asRoot(t, func(t *testing.T, dir string) {
		w := newFileWorld(t, filepath.Join(dir, "tokens"))
		setFlags := func(flags uint32) error {
			const fsIOCSetFlags = 0x40086602
			file, err := os.Open(w.path)
			require.NoError(t, err)
			defer file.Close()
			_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, file.Fd(), fsIOCSetFlags,
				uintptr(unsafe.Pointer(&flags)))
			if errno != 0 {
				return errno
			}
			return nil
		}
		if err := setFlags(0x10); err != nil { // FS_IMMUTABLE_FL
			t.Skip("files cannot be made immutable here: ", err)
		}
		defer func() { _ = setFlags(0) }()
		w.refuses(syscall.EPERM)
		require.NoError(t, setFlags(0))
		w.works()
	})
}

// The tokens are in a file or a folder of somebody else.
func TestTokenFile_ofAnotherUser(t *testing.T) {
	type entry struct {
		owner int
		mode  uint32
	}
	const none = 0 // nothing can be written
	for name, c := range map[string]struct {
		folder, file entry
		owner        int // of the file afterwards
		mode         os.FileMode
	}{
		"own file":                     {entry{0, 0o755}, entry{somebody, 0o600}, somebody, 0o600},
		"own file, for a group":        {entry{0, 0o755}, entry{somebody, 0o660}, somebody, 0o660},
		"file of another":              {entry{0, 0o755}, entry{0, 0o644}, 0, none},
		"file of another, open to all": {entry{0, 0o755}, entry{0, 0o666}, 0, 0o666},
		"sticky folder, own file":      {entry{0, 0o1777}, entry{somebody, 0o400}, somebody, 0o400},
		"sticky folder, another's":     {entry{0, 0o1777}, entry{0, 0o644}, 0, none},
		"sticky folder, open to all":   {entry{0, 0o1777}, entry{0, 0o666}, 0, 0o666},
		"own folder, read-only file":   {entry{somebody, 0o700}, entry{somebody, 0o400}, somebody, 0o400},
		"own folder, file of another":  {entry{somebody, 0o700}, entry{0, 0o644}, somebody, 0o600},
		"own folder, open to all":      {entry{somebody, 0o700}, entry{0, 0o666}, 0, 0o666},
		"unreadable folder":            {entry{somebody, 0o300}, entry{somebody, 0o600}, somebody, 0o600},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			asRoot(t, func(t *testing.T, dir string) {
				folder := filepath.Join(dir, "folder")
				require.NoError(t, os.Mkdir(folder, 0o700))
				path := filepath.Join(folder, "tokens")
				w := newFileWorld(t, path)
				for path, e := range map[string]entry{path: c.file, folder: c.folder} {
					require.NoError(t, os.Chown(path, e.owner, e.owner))
					require.NoError(t, syscall.Chmod(path, e.mode))
				}
				becomeSomebody(t)
				if c.mode == none {
					w.refuses(fs.ErrPermission)
					require.ErrorIs(t, w.file.Save(t.Context(), tokensession.Tokens{}), fs.ErrPermission)
					return
				}
				if c.file.mode&0o077 != 0 {
					_, _, err := clientGet(t.Context(), w.transport, clientAPIURL)
					require.NoError(t, err)
					require.Len(t, w.toldErrors(), 1)
					require.ErrorIs(t, w.toldErrors()[0], sessionclient.ErrExposed)
					w.requireAlive(w.file)
				} else {
					w.works()
				}
				w.worksAgain()
				info, err := os.Stat(path)
				require.NoError(t, err)
				require.Equal(t, c.mode, info.Mode())
				require.Equal(t, uint32(c.owner), info.Sys().(*syscall.Stat_t).Uid)
				if c.folder.mode&0o400 != 0 {
					entries, err := os.ReadDir(folder)
					require.NoError(t, err)
					require.Len(t, entries, 1)
				}
				require.NoError(t, w.file.Save(t.Context(), tokensession.Tokens{}))
				_, err = w.file.Load(t.Context())
				require.ErrorIs(t, err, sessionclient.ErrNoTokens)
			})
		})
	}
}

// Root runs the program once, with sudo. The file stays its user's.
func TestTokenFile_savedByRootStaysItsUsers(t *testing.T) {
	asRoot(t, func(t *testing.T, dir string) {
		path := filepath.Join(dir, "tokens")
		w := newFileWorld(t, path)
		require.NoError(t, os.Chown(path, somebody, somebody+1))
		require.NoError(t, os.Chmod(path, 0o400))
		w.works()
		w.worksAgain()
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o400), info.Mode())
		require.Equal(t, uint32(somebody), info.Sys().(*syscall.Stat_t).Uid)
		require.Equal(t, uint32(somebody+1), info.Sys().(*syscall.Stat_t).Gid)
		becomeSomebody(t)
		w.worksAgain()
	})
}

func TestTokenFile_removesWhatKilledProcessesLeft(t *testing.T) {
	path := os.Getenv("TOKENSESSION_TEST_FILE")
	if inside(t) { // until it is killed
		file := sessionclient.NewTokenFile(path)
		prepared, err := file.Prepare(t.Context())
		require.NoError(t, err)
		fmt.Println("prepared")
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		require.NoError(t, err)
		if line == "swap\n" {
			swapped, err := prepared.Swap(t.Context(), "r", tokensession.Tokens{RefreshToken: "swapped"})
			require.NoError(t, err)
			require.True(t, swapped)
			return
		}
		for n := 0; ; n++ {
			_, err := file.Swap(t.Context(), "r", tokensession.Tokens{
				RefreshToken: "r", AccessToken: strings.Repeat("x", n%(20<<10)),
			})
			require.NoError(t, err)
		}
	}
	dir := t.TempDir()
	path = filepath.Join(dir, "tokens")
	t.Setenv("TOKENSESSION_TEST_FILE", path)
	file := sessionclient.NewTokenFile(path)
	files := func() int {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		return len(entries)
	}
	// Two files of the user, which only look alike.
	for _, name := range []string{".tokens.old.tmp", ".tokens.1"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	const others = 2
	require.NoError(t, file.Save(t.Context(), tokensession.Tokens{RefreshToken: "r"}))

	start := func() (*exec.Cmd, io.Writer) {
		cmd := inChild(t)
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		for scanner := bufio.NewScanner(out); scanner.Text() != "prepared"; {
			require.True(t, scanner.Scan(), "the child has not prepared")
		}
		go func() { _, _ = io.Copy(io.Discard, out) }()
		return cmd, in
	}
	kill := func(cmd *exec.Cmd) {
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
	}

	for _, logout := range []bool{false, true} {
		cmd, _ := start()
		require.Equal(t, others+2, files())
		kill(cmd)
		require.Equal(t, others+2, files(), "it was killed before it could remove its file")
		if logout {
			require.NoError(t, file.Save(t.Context(), tokensession.Tokens{}))
			require.Equal(t, others, files())
		}
		require.NoError(t, file.Save(t.Context(), tokensession.Tokens{RefreshToken: "r"}))
		require.Equal(t, others+1, files())
	}

	// It is killed anywhere in a save.
	for range 10 {
		cmd, in := start()
		_, err := io.WriteString(in, "save\n")
		require.NoError(t, err)
		<-time.After(rand.N(30 * time.Millisecond))
		kill(cmd)
		require.Equal(t, "r", loaded(t, file).RefreshToken)
	}
	require.NoError(t, file.Save(t.Context(), tokensession.Tokens{RefreshToken: "r"}))
	require.Equal(t, others+1, files())

	// What a process that is alive has prepared stays.
	cmd, in := start()
	require.NoError(t, file.Save(t.Context(), tokensession.Tokens{RefreshToken: "r"}))
	require.Equal(t, others+2, files())
	_, err := io.WriteString(in, "swap\n")
	require.NoError(t, err)
	require.NoError(t, cmd.Wait())
	require.Equal(t, "swapped", loaded(t, file).RefreshToken)
	require.Equal(t, others+1, files())
}
