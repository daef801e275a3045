package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// run runs the command at the other side and returns its exit code.
func run(address, tokenFile string, command []string) int {
	token, err := readToken(tokenFile)
	if err != nil {
		fail(exitNoServer, err)
	}
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		fail(exitNoServer, fmt.Errorf("reaching the node: %w", err))
	}
	l := &link{conn: conn}
	dir, _ := os.Getwd()
	asked, err := json.Marshal(request{Token: token, Argv: command, Dir: dir})
	if err != nil {
		fail(exitNoServer, err)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2)
	if err := l.send(frameRequest, asked); err != nil {
		fail(exitNoServer, fmt.Errorf("asking the node: %w", err))
	}

	go func() {
		for s := range signals {
			if number, ok := s.(syscall.Signal); ok {
				l.send(frameSignal, []byte{byte(number)})
			}
		}
	}()
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := os.Stdin.Read(buffer)
			if n > 0 && l.send(frameStdin, buffer[:n]) != nil {
				return
			}
			if err != nil {
				l.send(frameStdin, nil)
				return
			}
		}
	}()

	for {
		kind, data, err := l.receive()
		if err != nil {
			fail(exitNoServer, fmt.Errorf("the node closed the connection: %w", err))
		}
		switch kind {
		case frameStdout:
			write(os.Stdout, data)
		case frameStderr:
			write(os.Stderr, data)
		case frameExit:
			if len(data) == 1 {
				return int(data[0])
			}
		}
	}
}

// write ends this process when nobody reads its output any more, and with it, at the other side, the
// command. (Go's own SIGPIPE handling does that for standard output; this is for the rest.)
func write(file *os.File, data []byte) {
	if _, err := file.Write(data); err != nil {
		os.Exit(128 + int(syscall.SIGPIPE))
	}
}
