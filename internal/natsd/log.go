package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// logger hands the server's log lines to slog, and keeps the fatal one: the
// server reports why it could not start in no other way.
type logger struct {
	log *slog.Logger

	mu  sync.Mutex
	err error
}

var _ server.Logger = (*logger)(nil)

func newLogger(log *slog.Logger) *logger {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &logger{log: log.With("component", "nats-server")}
}

// fatal returns the first fatal line as an error.
func (l *logger) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// forget forgets the fatal line: another server is started.
func (l *logger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = nil
}

// Noticef tells what an operator of a NATS server wants to read, which for
// an embedded one is detail.
func (l *logger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

// Warnf hands a warning on. What the server says when it rebuilds its index is
// normal after each end that was not orderly, and detail: the files were
// verified before.
func (l *logger) Warnf(format string, v ...any) {
	line := fmt.Sprintf(format, v...)
	level := slog.LevelWarn
	if strings.Contains(line, "] Stream state ") || strings.Contains(line, "Recovering stream state from index") {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, line)
}

func (l *logger) Errorf(format string, v ...any) { l.log.Error(fmt.Sprintf(format, v...)) }

func (l *logger) Fatalf(format string, v ...any) {
	line := fmt.Sprintf(format, v...)
	l.log.Error(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = errors.New(line)
	}
}

func (l *logger) Debugf(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

func (l *logger) Tracef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
