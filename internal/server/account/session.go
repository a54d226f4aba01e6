package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
)

// CookieName is the session cookie. The __Host- prefix makes browsers accept
// it only over TLS, from this very host, for the whole site.
const CookieName = "__Host-castellan"

// secretBytes is the length of cookies, tokens and CSRF values: 256 random bits
// cannot be guessed, so a plain SHA-256 of them may be stored.
const secretBytes = 32

// usedEvery is how often the use of a session or token is recorded, so that a
// busy one does not write at every request.
const usedEvery = time.Minute

// Cookie returns the cookie to set after SignIn.
func Cookie(value string, s access.Session) *http.Cookie {
	return &http.Cookie{
		Name: CookieName, Value: value, Path: "/", Expires: s.Expires,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// NoCookie returns the cookie to set after SignOut: it removes the session's.
func NoCookie() *http.Cookie {
	return &http.Cookie{
		Name: CookieName, Path: "/", MaxAge: -1,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// SignIn checks a name and a password and starts a session. An unknown name, a
// disabled user and a wrong password are the same Unauthenticated error after
// the same work; Exhausted means too many tries, and holds a *Wait. address is
// the browser's network address.
//
// Every refused sign-in is in the audit log; of those refused unchecked during
// one pause only the first is, so that a flood cannot fill the disk.
func (s *Service) SignIn(ctx context.Context, name, password, address string) (cookie string, session access.Session, err error) {
	name = normal(name)
	a := newAttempt(name, address)
	u, err := s.check(ctx, a, name, password, address)
	if err != nil {
		return "", access.Session{}, err
	}
	who := userIdentity(u, address)
	cookie, session = s.newSession(u, address)
	if err := s.start(ctx, u, session); err != nil {
		return "", access.Session{}, err
	}
	s.throttle.succeed(a)
	if err := s.audit(ctx, who, "session.start", who.Actor, audit.Done, ""); err != nil {
		return "", access.Session{}, err
	}
	return cookie, session, nil
}

// check returns the user whose password this is. What it refuses it has put
// into the audit log.
func (s *Service) check(ctx context.Context, a attempt, name, password, address string) (access.User, error) {
	if wait, first := s.throttle.begin(a, s.clock()); wait > 0 {
		err := fault.New(fault.Exhausted, "%w", &Wait{wait}).With("wait, then try again")
		if !first {
			return access.User{}, err
		}
		return access.User{}, s.refuse(ctx, access.User{}, address, "too many tries", err)
	}
	u, ok, why, err := s.verify(ctx, name, password)
	if err != nil {
		s.throttle.cancel(a)
		return access.User{}, fmt.Errorf("check a sign-in: %w", err)
	}
	if !ok {
		return access.User{}, s.refuse(ctx, u, address, why, wrongSignIn())
	}
	return u, nil
}

func wrongSignIn() error {
	return fault.New(fault.Unauthenticated, "the name or the password is wrong")
}

// verify looks the user up and hashes the password, whether or not there is
// such a user, so that both take equally long.
func (s *Service) verify(ctx context.Context, name, password string) (u access.User, ok bool, why string, err error) {
	u, err = s.st.UserByName(ctx, name)
	known := err == nil
	if err != nil && !fault.Is(err, fault.NotFound) {
		return access.User{}, false, "", err
	}
	stored := s.hasher.decoy
	if known && u.PasswordHash != "" {
		stored = u.PasswordHash
	}
	if len(password) > MaxPassword {
		password = "" // which no user has; still hashed, to take as long
	}
	match, outdated, err := s.hasher.verify(ctx, stored, password)
	switch {
	case err != nil:
		return access.User{}, false, "", err
	case !known:
		return access.User{}, false, "unknown name", nil
	case !match:
		return u, false, "wrong password", nil
	case u.Disabled:
		return u, false, "disabled", nil
	case outdated:
		u, err = s.rehash(ctx, u, password)
	}
	return u, err == nil, "", err
}

// rehash stores the password's hash under today's parameters.
func (s *Service) rehash(ctx context.Context, u access.User, password string) (access.User, error) {
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return u, err
	}
	s.changes.Lock()
	defer s.changes.Unlock()
	now, err := s.st.User(ctx, u.ID)
	if err != nil || now.PasswordHash != u.PasswordHash {
		return now, err // changed meanwhile: start will see it
	}
	now.PasswordHash = hash
	return now, s.st.UpdateUser(ctx, now)
}

// start stores the session unless the user was changed while the password was
// being checked.
func (s *Service) start(ctx context.Context, u access.User, session access.Session) error {
	s.changes.Lock()
	defer s.changes.Unlock()
	now, err := s.st.User(ctx, u.ID)
	if fault.Is(err, fault.NotFound) || err == nil && (now.Disabled || now.PasswordHash != u.PasswordHash) {
		return wrongSignIn()
	}
	if err != nil {
		return fmt.Errorf("start a session: %w", err)
	}
	at := session.Created
	now.LastSignIn = &at
	if err := s.st.UpdateUser(ctx, now); err != nil {
		return fmt.Errorf("record a sign-in: %w", err)
	}
	if err := s.st.PutSession(ctx, session); err != nil {
		return fmt.Errorf("store a session: %w", err)
	}
	return nil
}

func (s *Service) newSession(u access.User, address string) (string, access.Session) {
	cookie, now := secret(), s.clock()
	return cookie, access.Session{
		Hash: digest(cookie), UserID: u.ID, CSRF: secret(),
		Created: now, Used: now, Expires: now.Add(AbsoluteLimit), Address: address,
	}
}

// SignOut ends one session.
func (s *Service) SignOut(ctx context.Context, cookie string, who access.Identity) error {
	if who.UserID == 0 || len(cookie) != secretLen {
		return nil // there is nothing to end
	}
	if err := s.st.DeleteSessions(ctx, digest(cookie), who.UserID); err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("end a session: %w", err)
	}
	return s.audit(ctx, who, "session.end", who.Actor, audit.Done, "")
}

// SignOutAll ends all sessions of who asks, this one included.
func (s *Service) SignOutAll(ctx context.Context, who access.Identity) error {
	if who.UserID == 0 {
		return nil // there is nothing to end
	}
	if err := s.st.DeleteSessions(ctx, nil, who.UserID); err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("end all sessions: %w", err)
	}
	return s.audit(ctx, who, "session.end_all", who.Actor, audit.Done, "")
}

// BySession returns who the cookie's session belongs to; Unauthenticated when
// there is none or it has expired.
func (s *Service) BySession(ctx context.Context, cookie, address string) (access.Identity, access.Session, error) {
	var no access.Session
	if len(cookie) != secretLen {
		return access.Identity{}, no, noSession()
	}
	now := s.clock()
	session, err := s.st.Session(ctx, digest(cookie), now)
	if fault.Is(err, fault.NotFound) {
		return access.Identity{}, no, noSession()
	}
	if err != nil {
		return access.Identity{}, no, fmt.Errorf("read a session: %w", err)
	}
	if !now.Before(session.Expires) || now.Sub(session.Used) > IdleLimit {
		if err := s.st.DeleteSessions(ctx, session.Hash, session.UserID); err != nil {
			s.log.Warn("expired session not removed", "error", err)
		}
		return access.Identity{}, no, noSession()
	}
	u, err := s.st.User(ctx, session.UserID)
	if fault.Is(err, fault.NotFound) || err == nil && u.Disabled {
		return access.Identity{}, no, noSession()
	}
	if err != nil {
		return access.Identity{}, no, fmt.Errorf("read a session's user: %w", err)
	}
	if now.Sub(session.Used) >= usedEvery {
		session.Used = now
		if err := s.st.PutSession(ctx, session); err != nil {
			// Reading must go on with a full disk; the idle limit only comes early.
			s.log.Warn("use of a session not recorded", "error", err)
		}
	}
	return userIdentity(u, address), session, nil
}

func noSession() error {
	return fault.New(fault.Unauthenticated, "not signed in, or the session has ended").With("sign in again")
}

// userIdentity is what a signed-in user may do: until a password that somebody
// else chose is changed, nothing but that.
func userIdentity(u access.User, address string) access.Identity {
	who := access.Identity{
		Actor: "user:" + u.Name, UserID: u.ID, Name: u.Name, Role: u.Role,
		Address: address, MustChange: u.MustChange, Scopes: u.Role.Scopes(),
	}
	if u.MustChange {
		who.Scopes = nil
	}
	return who
}

// secretLen is the length of secret()'s text.
const secretLen = (secretBytes*8 + 5) / 6

func secret() string {
	b := make([]byte, secretBytes)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}

func digest(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

func normal(name string) string { return strings.ToLower(strings.TrimSpace(name)) }
