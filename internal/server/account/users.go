package account

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
)

// FirstUser is the name of the administrator that Bootstrap makes.
const FirstUser = "admin"

// NewUser is what an administrator says about a user to be.
type NewUser struct {
	Name     string
	Role     access.Role
	Password string
}

// UserChange is what to change of a user; nil leaves as it is.
type UserChange struct {
	Role     *access.Role
	Disabled *bool
	Password *string
}

// nameForm is what user names look like after lower-casing: they stand in
// audit lines and addresses, and no "/" or ":" may blur who an actor was.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,62}$`)

// reserved names would read in the audit log like somebody else.
var reserved = [...]string{LocalOwner, "root", "system", "anonymous"}

// Bootstrap creates the first administrator, FirstUser, with a random password
// when there is no user yet, and returns the password, which is kept nowhere
// else. It returns "" when there are users. The password need not be changed:
// nobody chose it, and only who started the server saw it.
func (s *Service) Bootstrap(ctx context.Context) (password string, err error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	users, err := s.st.Users(ctx)
	if err != nil {
		return "", fmt.Errorf("look for users: %w", err)
	}
	if len(users) > 0 {
		return "", nil
	}
	password = passphrase()
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return "", err
	}
	u := access.User{Name: FirstUser, Role: access.Administrator, PasswordHash: hash, Created: s.clock()}
	if _, err := s.st.CreateUser(ctx, u); err != nil {
		return "", fmt.Errorf("create the first administrator: %w", err)
	}
	system := access.Identity{Actor: "system"}
	if err := s.audit(ctx, system, "user.create", "user:"+FirstUser, audit.Done, "first administrator"); err != nil {
		return "", err
	}
	return password, nil
}

// passphrase returns some 119 random bits in groups that can be typed.
func passphrase() string {
	const groups, size = 4, 5
	letters := secret()
	letters = strings.NewReplacer("-", "x", "_", "y").Replace(letters)
	parts := make([]string, groups)
	for i := range parts {
		parts[i] = letters[i*size : (i+1)*size]
	}
	return strings.Join(parts, "-")
}

// Users lists everybody who may sign in. It needs access.ManageUsers.
func (s *Service) Users(ctx context.Context, who access.Identity) ([]access.User, error) {
	if err := need(who, access.ManageUsers); err != nil {
		return nil, err
	}
	users, err := s.st.Users(ctx)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return users, nil
}

// CreateUser adds a user, who must change the password at the first sign-in.
// It needs access.ManageUsers; Invalid names the field, Conflict means the
// name is taken.
func (s *Service) CreateUser(ctx context.Context, who access.Identity, n NewUser) (access.User, error) {
	if err := need(who, access.ManageUsers); err != nil {
		return access.User{}, err
	}
	n.Name = normal(n.Name)
	if err := n.check(); err != nil {
		return access.User{}, err
	}
	hash, err := s.hasher.hash(ctx, n.Password)
	if err != nil {
		return access.User{}, err
	}
	s.changes.Lock()
	defer s.changes.Unlock()
	users, err := s.st.Users(ctx)
	if err != nil {
		return access.User{}, fmt.Errorf("count users: %w", err)
	}
	if len(users) >= MaxUsers {
		return access.User{}, fault.New(fault.Exhausted, "there are %d users already", len(users))
	}
	u, err := s.st.CreateUser(ctx, access.User{
		Name: n.Name, Role: n.Role, PasswordHash: hash, MustChange: true, Created: s.clock(),
	})
	if err != nil {
		return access.User{}, fmt.Errorf("create user %s: %w", n.Name, err)
	}
	return u, s.audit(ctx, who, "user.create", "user:"+u.Name, audit.Done, "role "+string(u.Role))
}

func (n NewUser) check() error {
	switch {
	case !nameForm.MatchString(n.Name):
		return fault.New(fault.Invalid, "name: want 1 to 63 of a-z, 0-9, and . _ @ - after the first")
	case slices.Contains(reserved[:], n.Name):
		return fault.New(fault.Invalid, "name: %q is reserved", n.Name)
	}
	if err := checkRole(n.Role); err != nil {
		return err
	}
	return checkPassword(n.Name, n.Password)
}

func checkRole(r access.Role) error {
	if !r.Valid() {
		return fault.New(fault.Invalid, "role: want one of %v", access.Roles())
	}
	return nil
}

// UpdateUser changes a user and ends all of the user's sessions. A password
// set so must be changed by its user. It needs access.ManageUsers; Conflict
// means that no enabled administrator would be left.
func (s *Service) UpdateUser(ctx context.Context, who access.Identity, id int64, c UserChange) (access.User, error) {
	if err := need(who, access.ManageUsers); err != nil {
		return access.User{}, err
	}
	if c.Password != nil && who.UserID == id {
		return access.User{}, fault.New(fault.Invalid, "password: one's own is changed by giving the old one").
			With("use the account page, or POST /api/v1/account/password")
	}
	u, err := s.st.User(ctx, id)
	if err != nil {
		return access.User{}, fmt.Errorf("read user %d: %w", id, err)
	}
	hash, err := s.newHash(ctx, u.Name, c.Password)
	if err != nil {
		return access.User{}, err
	}
	s.changes.Lock()
	defer s.changes.Unlock()
	if u, err = s.st.User(ctx, id); err != nil {
		return access.User{}, fmt.Errorf("read user %d: %w", id, err)
	}
	detail, err := c.apply(&u, hash)
	if err != nil || detail == "" {
		return u, err
	}
	if err := s.replace(ctx, u); err != nil {
		return access.User{}, err
	}
	return u, s.audit(ctx, who, "user.update", "user:"+u.Name, audit.Done, detail)
}

// newHash checks and hashes a password to be; nil gives "".
func (s *Service) newHash(ctx context.Context, name string, password *string) (string, error) {
	if password == nil {
		return "", nil
	}
	if err := checkPassword(name, *password); err != nil {
		return "", err
	}
	return s.hasher.hash(ctx, *password)
}

// apply changes u and says what it changed; "" when nothing.
func (c UserChange) apply(u *access.User, hash string) (detail string, err error) {
	var what []string
	if c.Role != nil && *c.Role != u.Role {
		if err := checkRole(*c.Role); err != nil {
			return "", err
		}
		what = append(what, "role "+string(u.Role)+" to "+string(*c.Role))
		u.Role = *c.Role
	}
	if c.Disabled != nil && *c.Disabled != u.Disabled {
		u.Disabled = *c.Disabled
		what = append(what, map[bool]string{true: "disabled", false: "enabled"}[u.Disabled])
	}
	if c.Password != nil {
		u.PasswordHash, u.MustChange = hash, true
		what = append(what, "password set")
	}
	return strings.Join(what, ", "), nil
}

// replace stores the user and ends the sessions that began under the old one.
func (s *Service) replace(ctx context.Context, u access.User) error {
	if err := s.st.UpdateUser(ctx, u); err != nil {
		return fmt.Errorf("change user %s: %w", u.Name, err)
	}
	if err := s.st.DeleteSessions(ctx, nil, u.ID); err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("end the sessions of %s: %w", u.Name, err)
	}
	return nil
}

// DeleteUser removes a user with sessions and tokens. It needs
// access.ManageUsers; Conflict means that no enabled administrator would be left.
func (s *Service) DeleteUser(ctx context.Context, who access.Identity, id int64) error {
	if err := need(who, access.ManageUsers); err != nil {
		return err
	}
	s.changes.Lock()
	defer s.changes.Unlock()
	u, err := s.st.User(ctx, id)
	if err != nil {
		return fmt.Errorf("read user %d: %w", id, err)
	}
	if err := s.st.DeleteUser(ctx, id); err != nil {
		return fmt.Errorf("delete user %s: %w", u.Name, err)
	}
	return s.audit(ctx, who, "user.delete", "user:"+u.Name, audit.Done, "")
}

// ChangePassword changes the password of who asks and ends all of their
// sessions, this one included. The old password is throttled as at SignIn and
// wrong is Invalid: the session itself is good.
func (s *Service) ChangePassword(ctx context.Context, who access.Identity, old, new string) error {
	if who.UserID == 0 {
		return fault.New(fault.Denied, "%s has no password", who.Actor).With("sign in as a user")
	}
	if err := checkPassword(who.Name, new); err != nil {
		return err
	}
	if old == new {
		return fault.New(fault.Invalid, "password: the new one is the old one")
	}
	a := newAttempt(who.Name, who.Address)
	if _, err := s.check(ctx, a, who.Name, old, who.Address); err != nil {
		if fault.Is(err, fault.Unauthenticated) {
			return fault.New(fault.Invalid, "old password: it is wrong")
		}
		return err
	}
	s.throttle.succeed(a)
	hash, err := s.hasher.hash(ctx, new)
	if err != nil {
		return err
	}
	s.changes.Lock()
	defer s.changes.Unlock()
	u, err := s.st.User(ctx, who.UserID)
	if err != nil {
		return fmt.Errorf("read user %s: %w", who.Name, err)
	}
	u.PasswordHash, u.MustChange = hash, false
	if err := s.replace(ctx, u); err != nil {
		return err
	}
	return s.audit(ctx, who, "user.password", who.Actor, audit.Done, "")
}
