package oci

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/castellan-security/castellan/internal/fault"
)

// dockerConfig is what is read of the docker command's config.json, and of
// podman's auth.json, which has the same form.
type dockerConfig struct {
	Auths       map[string]dockerAuth `json:"auths"`
	CredHelpers map[string]string     `json:"credHelpers"`
	CredsStore  string                `json:"credsStore"`
}

// dockerAuth is one registry's entry.
type dockerAuth struct {
	Auth          string `json:"auth"` // user:password in base64
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// dockerConfigs are the files in which credentials may be, best first.
func dockerConfigs() []string {
	var paths []string
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		paths = append(paths, filepath.Join(dir, "config.json"))
	} else if home, err := os.UserHomeDir(); err == nil {
		paths = append(paths, filepath.Join(home, ".docker", "config.json"))
	}
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		paths = append(paths, file)
	} else if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		paths = append(paths, filepath.Join(dir, "containers", "auth.json"))
	}
	return paths
}

// fromDockerConfig looks a repository's registry up as docker does. ok is false
// when there is nothing; err then says what stood in the way, if something did.
func fromDockerConfig(ctx context.Context, repo name.Repository) (_ credential, ok bool, err error) {
	var trouble error
	for _, path := range dockerConfigs() {
		c, err := readDockerConfig(path)
		if err != nil {
			trouble = errors.Join(trouble, err)
			continue
		}
		auth, ok, err := c.find(ctx, repo)
		if err != nil {
			trouble = errors.Join(trouble, fmt.Errorf("%s: %w", path, err))
			continue
		}
		if ok {
			return credential{Authenticator: authn.FromConfig(auth), source: path}, true, nil
		}
	}
	return credential{}, false, trouble
}

// readDockerConfig reads a file; one that isn't there is empty.
func readDockerConfig(path string) (*dockerConfig, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &dockerConfig{}, nil
	}
	if err != nil {
		return nil, unreadable(path, err)
	}
	b, err := readBounded(file, maxDockerConfig, path)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	c := &dockerConfig{}
	if len(bytes.TrimSpace(b)) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fault.New(fault.Invalid, "parse %s: %w", path, err).With("mend it, or log in again (docker login)")
	}
	return c, nil
}

// find returns the credentials for a repository: of the most specific entry
// that fits, from its helper if it has one.
func (c *dockerConfig) find(ctx context.Context, repo name.Repository) (authn.AuthConfig, bool, error) {
	key := repo.RegistryStr()
	if key == name.DefaultRegistry {
		key = authn.DefaultAuthKey // under which docker has kept Docker Hub's from the beginning
	}
	helper := c.CredsStore
	for host, named := range c.CredHelpers {
		if hostOf(host) == hostOf(key) {
			helper = named
		}
	}
	if helper != "" {
		auth, ok, err := askHelper(ctx, helper, key)
		if ok || err != nil {
			return auth, ok, err
		}
	}
	// Podman has entries for parts of a registry.
	for scope := repo.RegistryStr() + "/" + repo.RepositoryStr(); ; scope = scope[:strings.LastIndexByte(scope, '/')] {
		for entry, auth := range c.Auths {
			if entry == scope || scope == repo.RegistryStr() && hostOf(entry) == hostOf(key) {
				if got, ok, err := auth.decode(); ok || err != nil {
					return got, ok, err
				}
			}
		}
		if !strings.Contains(scope, "/") {
			return authn.AuthConfig{}, false, nil
		}
	}
}

// hostOf reads the host out of an entry's key, which may be an address.
func hostOf(key string) string {
	if _, rest, ok := strings.Cut(key, "://"); ok {
		key = rest
	}
	host, path, _ := strings.Cut(key, "/")
	if path != "" && path != "v1/" && path != "v2/" && path != "v1" && path != "v2" {
		return key // an entry for a part of the registry
	}
	return host
}

// decode reads an entry; ok is false for one without content, as docker writes
// when a helper has it.
func (a dockerAuth) decode() (authn.AuthConfig, bool, error) {
	c := authn.AuthConfig{
		Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	}
	if a.Auth != "" {
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(a.Auth), "="))
		user, password, ok := strings.Cut(string(b), ":")
		if err != nil || !ok || user == "" {
			return authn.AuthConfig{}, false, errors.New("an entry is not user:password in base64")
		}
		c.Username, c.Password = user, strings.TrimRight(password, "\x00")
	}
	return c, c != authn.AuthConfig{}, nil
}

// askHelper runs docker-credential-NAME; ok is false when it has nothing for
// the registry.
func askHelper(ctx context.Context, helper, server string) (_ authn.AuthConfig, ok bool, err error) {
	program := "docker-credential-" + helper
	if helper != filepath.Base(helper) {
		return authn.AuthConfig{}, false, fault.New(fault.Invalid, "credential helper %q is a path", helper).With("name it without docker-credential- and without a folder")
	}
	ctx, cancel := context.WithTimeout(ctx, helperWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin = strings.NewReader(server)
	cmd.WaitDelay = firstPause // what it started may hold its output open
	var out answer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		// The protocol has a helper say on its output what is the matter.
		if strings.Contains(out.text.String(), "credentials not found") {
			return authn.AuthConfig{}, false, nil
		}
		why := strings.TrimSpace(out.text.String())
		if ctx.Err() != nil {
			why = "no answer within " + helperWithin.String()
		}
		return authn.AuthConfig{}, false, fault.New(fault.Unavailable, "run %s: %w: %s", program, err, shown(why)).
			With("install it, or remove it from credsStore and credHelpers and log in again (docker login)")
	}
	var said struct{ Username, Secret string }
	if err := json.Unmarshal(out.text.Bytes(), &said); err != nil {
		return authn.AuthConfig{}, false, fmt.Errorf("parse answer of %s: %w", program, err)
	}
	if said.Username == "<token>" {
		return authn.AuthConfig{IdentityToken: said.Secret}, said.Secret != "", nil
	}
	return authn.AuthConfig{Username: said.Username, Password: said.Secret}, said.Username != "" && said.Secret != "", nil
}

// answer keeps what a program writes, up to maxHelperAnswer.
type answer struct{ text bytes.Buffer }

// Write refuses what would be too much, which ends the program.
func (a *answer) Write(p []byte) (int, error) {
	if a.text.Len()+len(p) > maxHelperAnswer {
		return 0, io.ErrShortWrite
	}
	return a.text.Write(p)
}
