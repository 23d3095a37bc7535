package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// What the flags must be besides what their types say. kong calls AfterApply
// once it has read them; an error of it is one of the command line: exit 2.

func (c *serveCommand) AfterApply() error {
	if err := checkAddr("--listen", c.Listen, defaultListen); err != nil {
		return err
	}
	u, err := publicURL(c.PublicURL)
	if err != nil {
		return err
	}
	c.PublicURL = u
	return c.checkLimits()
}

// leastReserve is the least that --reserve may keep free: a commit, and what
// the server below writes beside it.
const leastReserve = 16 << 20

func (c *serveCommand) checkLimits() error {
	switch {
	case c.Retention < time.Minute:
		return errors.New("--retention must be at least 1m")
	case c.History < 0:
		return errors.New("--history must not be below 0")
	case c.Share < 0:
		return errors.New("--share must not be below 0")
	case c.Reserve < leastReserve:
		return errors.New("--reserve must be at least 16MiB")
	}
	return nil
}

func (c *awsLocalCommand) AfterApply() error {
	if err := checkAddr("--listen", c.Listen, "127.0.0.1:8883"); err != nil {
		return err
	}
	return checkAddr("--control", c.Control, "127.0.0.1:8884")
}

func (c *demoCommand) AfterApply() error {
	switch {
	case c.Rate < 1:
		return errors.New("--rate must be at least 1")
	case c.Devices < 1:
		return errors.New("--devices must be at least 1")
	case c.For < 0:
		return errors.New("--for must not be below 0")
	case c.Listen == "":
		return nil
	}
	return checkAddr("--listen", c.Listen, defaultListen)
}

// checkAddr checks an address to listen on: a host, which may be left out, and
// the number of a port.
func checkAddr(flag, addr, example string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s must be host:port, such as %s", flag, example)
	}
	return nil
}

// publicURL checks the address that others reach Sluice at, and takes the
// slash off its end: paths are put behind it. It may have a path, of a proxy.
func publicURL(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", errors.New("--public-url must be an http(s) URL such as https://sluice.example.com")
	}
	return strings.TrimRight(text, "/"), nil
}

// versionFlag is --version, which does as the command version does.
type versionFlag bool

func (versionFlag) BeforeReset(app *kong.Kong) error {
	printVersion(app.Stdout)
	app.Exit(0)
	return nil
}
