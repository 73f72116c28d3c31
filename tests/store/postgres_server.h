#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "format/python_tool.h"
#include "format/temporary_folder.h"

namespace recast {

/// Where Debian's PostgreSQL has its programs, the newest; empty: not installed.
inline std::filesystem::path postgres_programs() {
  std::filesystem::path newest;
  std::error_code absent;
  for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", absent)) {
    if (std::filesystem::exists(version.path() / "bin/initdb") && version.path() > newest) newest = version.path();
  }
  return newest.empty() ? newest : newest / "bin";
}

/// Before the words of a program: as a user who is not root, which PostgreSQL refuses to be.
inline std::vector<std::string> as_nobody(std::vector<std::string> options = {}) {
  options.insert(options.begin(), "setpriv");
  if (::geteuid() == 0) options.insert(options.end(), {"--reuid=nobody", "--regid=nogroup", "--clear-groups"});
  return options;
}

/// A real PostgreSQL in a temporary folder, on a socket there and no port. It ends with this process.
class PostgresServer {
 public:
  PostgresServer() {
    make_data({"initdb", "-U", "recast", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"});
    start();
  }
  /// A hot standby.
  struct CopyOf {
    const PostgresServer& original;
  };
  explicit PostgresServer(CopyOf of) {
    make_data({"pg_basebackup", "-U", "recast", "-h", of.original.socket_folder(), "--no-sync", "--checkpoint=fast",
               "--write-recovery-conf"});
    start();
  }
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;
  ~PostgresServer() {
    if (owner_ == ::getpid()) stop();
  }

  /// One for all tests of this program.
  static PostgresServer& shared() {
    static PostgresServer server;
    return server;
  }

  /// Until it takes connections; after a crash it repairs itself first.
  void start() {
    std::vector<std::string> words = as_nobody({"--pdeathsig=SIGQUIT"});
    words.insert(words.end(), {(postgres_programs() / "postgres").string(), "-D", data(), "-k", socket_folder(), "-c",
                               "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB", "-c",
                               "max_connections=60", "-c", "autovacuum=off"});
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    process_ = ::fork();
    if (process_ == 0) {
      const int log = ::open((folder_ / "log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
      ::dup2(log, STDOUT_FILENO);
      ::dup2(log, STDERR_FILENO);
      ::execvp(arguments[0], arguments.data());
      ::_exit(127);
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (PQping(url("postgres").c_str()) != PQPING_OK) {
      if (std::chrono::steady_clock::now() > end) fail(Code::kUnavailable, "[test] the server takes no connections");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  /// As `pg_ctl stop -m immediate`: every connection is cut and nothing is tidied up, as in a crash.
  void stop() {
    if (process_ <= 0) return;
    ::kill(process_, SIGQUIT);
    ::waitpid(process_, nullptr, 0);
    process_ = -1;
  }

  std::string socket_folder() const { return folder_.path().string(); }
  std::string socket() const { return socket_folder() + "/.s.PGSQL.5432"; }

  std::string url(const std::string& database, const std::string& folder = {}) const {
    return "postgresql://recast@/" + database + "?host=" + (folder.empty() ? socket_folder() : folder);
  }

  /// An empty database, by its name.
  std::string new_database() {
    const std::string name = "t" + std::to_string(++databases_);
    sql("postgres", "CREATE DATABASE " + name);
    return name;
  }

  /// The first value of what a statement gives, by a connection that knows nothing of the store.
  std::string sql(const std::string& database, const std::string& statement) const {
    const std::unique_ptr<PGconn, void (*)(PGconn*)> connection(PQconnectdb(url(database).c_str()), PQfinish);
    const std::unique_ptr<PGresult, void (*)(PGresult*)> result(PQexec(connection.get(), statement.c_str()), PQclear);
    const ExecStatusType status = PQresultStatus(result.get());
    EXPECT_TRUE(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) << PQerrorMessage(connection.get());
    return PQntuples(result.get()) > 0 ? PQgetvalue(result.get(), 0, 0) : "";
  }

 private:
  /// By a program of PostgreSQL and its options.
  void make_data(std::vector<std::string> program) {
    if (const passwd* nobody = ::getpwnam("nobody"); ::geteuid() == 0 && nobody != nullptr) {
      if (::chown(folder_.path().c_str(), nobody->pw_uid, nobody->pw_gid) != 0) std::abort();
    }
    program[0] = (postgres_programs() / program[0]).string();
    std::vector<std::string> words = as_nobody();
    words.insert(words.end(), program.begin(), program.end());
    words.insert(words.end(), {"-D", data()});
    const Outcome made = run_program(words);
    if (made.status != 0) fail(Code::kUnavailable, "[test] {}: {}", program[0], made.text);
  }
  std::string data() const { return (folder_ / "data").string(); }

  const ::pid_t owner_ = ::getpid();
  TemporaryFolder folder_;
  ::pid_t process_ = -1;
  int databases_ = 0;
};

inline std::string missing_postgres() {
  return postgres_programs().empty() ? "no PostgreSQL in /usr/lib/postgresql (run tools/setup.sh)" : "";
}

}  // namespace recast

/// Skips with the reason where PostgreSQL is missing; on CI that is a failure.
#define RECAST_NEED_POSTGRES()                                                      \
  if (const std::string missing = ::recast::missing_postgres(); !missing.empty()) { \
    if (::recast::on_ci()) FAIL() << missing;                                       \
    GTEST_SKIP() << missing;                                                        \
  }                                                                                 \
  static_assert(true)
