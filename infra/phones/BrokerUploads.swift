import Foundation

/// The broker or S3 refused the upload for good; the message says why.
public struct Refused: LocalizedError {
    public let errorDescription: String?
}

/// Resumable uploads of videos through the broker, in the background. Each upload is a folder of `folder` until it is ready,
/// so that it goes on after any end of the app: make this object at every start, also when the system starts the app in
/// the background, and call `resume()`.
public final class BrokerUploads: NSObject, URLSessionTaskDelegate, @unchecked Sendable {
    private struct Upload: Codable {
        let type: String
        let size: Int64
        var issued: Issued?
    }
    private struct Issued: Codable { // the names are those of the JSON
        let media_id, parts_url, complete_url: String
    }
    private struct Page: Decodable { let parts: Parts }
    private struct Parts: Decodable {
        let url: URL
        let part_size: Int64
        let count: Int
        let fields: [String: String]
        let forms: [Form]
        let arrived: [Int]
        let next_from: Int?
    }
    private struct Form: Decodable {
        let number: Int
        let size: Int64
        let fields: [String: String]
    }
    private struct Problem: Decodable { let detail: String }

    /// Called on the main thread, with the upload's id and the media's id, or the reason why no later try can succeed.
    public var onEnd: (String, Result<String, Error>) -> Void = { _, _ in }
    /// Called on the main thread, with the upload's id, and the numbers of arrived and of all parts.
    public var onProgress: (String, Int, Int) -> Void = { _, _, _ in }
    /// Set it to what `application(_:handleEventsForBackgroundURLSession:completionHandler:)` gets. It is called once.
    public var onIdle: (() -> Void)?

    private let folder: URL, prefix: String, token: () async throws -> String
    private let ahead = 8 // parts that the system holds at a time, each with a file of its own
    private var session: URLSession!
    @MainActor private var last: Task<Void, Never>?
    @MainActor private var waiting: Set<String> = [] // uploads whose last step failed, and which take the next one after a pause
    @MainActor private var failures: [String: Int] = [:] // how often in a row a part failed since the app started

    /// `prefix` is the address of the broker's routes; `token` returns the user's current token.
    public init(folder: URL, prefix: String, token: @escaping () async throws -> String) {
        (self.folder, self.prefix, self.token) = (folder, prefix, token)
        super.init()
        let configuration = URLSessionConfiguration.background(withIdentifier: "example.uploads")
        configuration.sessionSendsLaunchEvents = true
        session = URLSession(configuration: configuration, delegate: self, delegateQueue: .main)
    }

    /// Start an upload of a copy of `video`, which takes no space of its own on APFS. Return its id.
    @MainActor public func add(_ video: URL, type: String) throws -> String {
        let id = UUID().uuidString
        do {
            try FileManager.default.createDirectory(at: path(id), withIntermediateDirectories: true)
            try FileManager.default.copyItem(at: video, to: path(id, "video"))
            let size = try FileManager.default.attributesOfItem(atPath: path(id, "video").path)[.size] as? Int64 ?? 0
            try save(Upload(type: type, size: size, issued: nil), id)
        } catch {
            try? FileManager.default.removeItem(at: path(id))
            throw error
        }
        enqueue(id)
        return id
    }

    /// Go on with every upload that is not ready, and remove the copy of a video if the app ended inside `add`.
    @MainActor public func resume() {
        let ids = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        for id in ids where UUID(uuidString: id) != nil { // a folder of `add`, and none of the app's other files
            if FileManager.default.fileExists(atPath: path(id, "upload.json").path) {
                enqueue(id)
            } else {
                try? FileManager.default.removeItem(at: path(id))
            }
        }
    }

    /// Stop an upload, delete its media if there is one, and forget it. If this throws, for example without a network, the
    /// upload goes on.
    @MainActor public func cancel(_ id: String) async throws {
        let step: Task<Void, Error> = Task { [last] in
            await stopSending(id)
            await last?.value // a step that was begun before may issue the media, or hand over more parts
            await stopSending(id)
            let upload = try JSONDecoder().decode(Upload.self, from: Data(contentsOf: path(id, "upload.json")))
            if let issued = upload.issued { _ = try await call("DELETE", "\(prefix)/\(issued.media_id)") }
            try FileManager.default.removeItem(at: path(id))
        }
        last = Task { _ = try? await step.value }
        try await step.value
    }

    private func stopSending(_ id: String) async {
        for task in await session.allTasks where task.taskDescription?.hasPrefix(id) == true { task.cancel() }
    }

    /// Take the next step of an upload once the steps before it are done, so that no two run at a time.
    @MainActor private func enqueue(_ id: String) {
        last = Task { [last] in
            await last?.value
            guard FileManager.default.fileExists(atPath: path(id, "upload.json").path) else { return }
            do {
                guard let media = try await advance(id) else { return }
                finish(id, .success(media))
            } catch let refused as Refused {
                await stopSending(id)
                finish(id, .failure(refused))
            } catch { // no network, or the broker is unavailable: later, or at the next start
                guard waiting.insert(id).inserted else { return } // every part that ends takes a step: one retry for all
                Task {
                    try? await Task.sleep(nanoseconds: 10_000_000_000)
                    waiting.remove(id)
                    enqueue(id)
                }
            }
        }
    }

    @MainActor private func finish(_ id: String, _ result: Result<String, Error>) {
        try? FileManager.default.removeItem(at: path(id))
        onEnd(id, result)
    }

    /// Issue, hand missing parts to the system, or complete. Return the media's id once it is ready.
    private func advance(_ id: String) async throws -> String? {
        var upload = try JSONDecoder().decode(Upload.self, from: Data(contentsOf: path(id, "upload.json")))
        if upload.issued == nil { // the id is the Idempotency-Key: a repeated request gets the same media
            let body = try JSONSerialization.data(withJSONObject: ["content_type": upload.type, "size": upload.size, "resumable": true])
            upload.issued = try decoded(await call("POST", "\(prefix)/upload", body: body, key: id).data)
            try save(upload, id)
        }
        guard let issued = upload.issued else { return nil }
        let sending = Set(await session.allTasks.compactMap { $0.taskDescription }.filter { $0.hasPrefix(id) })
        guard sending.count <= ahead / 2 else { return nil }
        var from: Int? = 1
        while let first = from {
            let url = "\(issued.parts_url)?from=\(first)&limit=1000&forms=\(ahead)"
            let parts: Parts = try decoded(await call("GET", url).data, as: Page.self).parts
            let arrived = first - 1 + parts.arrived.count, count = parts.count
            await MainActor.run { onProgress(id, arrived, count) }
            let missing = parts.forms.filter { !sending.contains("\(id)/\($0.number)") }.prefix(ahead - sending.count)
            for form in missing { try send(form, of: parts, id: id) }
            if !missing.isEmpty { return nil }
            from = parts.next_from
        }
        guard sending.isEmpty else { return nil }
        let answer = try await call("POST", issued.complete_url)
        if answer.status == 409 { throw URLError(.resourceUnavailable) } // still being confirmed: later
        return issued.media_id
    }

    /// Write the body of one part to a file, since the system sends a background upload only from a file, and enqueue it.
    private func send(_ form: Form, of parts: Parts, id: String) throws {
        let boundary = UUID().uuidString, file = path(id, "\(form.number).body")
        var isSending = false
        defer { if !isSending { try? FileManager.default.removeItem(at: file) } } // a full disk would stay full
        var head = ""
        for (name, value) in parts.fields.merging(form.fields, uniquingKeysWith: { $1 }) {
            head += "--\(boundary)\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n\(value)\r\n"
        }
        head += "--\(boundary)\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\r\n"
        FileManager.default.createFile(atPath: file.path, contents: Data(head.utf8))
        let input = try FileHandle(forReadingFrom: path(id, "video")), output = try FileHandle(forWritingTo: file)
        defer { try? input.close(); try? output.close() }
        try output.seekToEnd()
        try input.seek(toOffset: UInt64(Int64(form.number - 1) * parts.part_size))
        var left = form.size
        while left > 0 {
            try autoreleasepool { // otherwise every chunk stays in memory until the end
                let chunk = try input.read(upToCount: Int(min(left, 1 << 20))) ?? Data()
                if chunk.isEmpty { throw Refused(errorDescription: "The video became shorter.") }
                try output.write(contentsOf: chunk)
                left -= Int64(chunk.count)
            }
        }
        try output.write(contentsOf: Data("\r\n--\(boundary)--\r\n".utf8))

        var request = URLRequest(url: parts.url)
        request.httpMethod = "POST"
        request.setValue("multipart/form-data; boundary=\(boundary)", forHTTPHeaderField: "Content-Type")
        let task = session.uploadTask(with: request, fromFile: file)
        task.taskDescription = "\(id)/\(form.number)" // survives the app
        task.resume()
        isSending = true
    }

    /// The system also calls these after it restarts the app. A form that S3 refused may have expired, and the next page has
    /// fresh ones. If S3 refuses the part itself, the pauses grow until the media expires, which ends the upload.
    public func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: Error?) {
        guard let name = task.taskDescription, let id = name.split(separator: "/").first.map(String.init) else { return }
        try? FileManager.default.removeItem(at: folder.appendingPathComponent("\(name).body"))
        let status = (task.response as? HTTPURLResponse)?.statusCode ?? 0
        Task { @MainActor in
            let count = status == 201 ? 0 : failures[name, default: 0] + 1
            failures[name] = count
            if count > 1 { try? await Task.sleep(nanoseconds: UInt64(min(3600, 5 << min(count, 10))) * 1_000_000_000) }
            enqueue(id)
        }
    }

    public func urlSessionDidFinishEvents(forBackgroundURLSession session: URLSession) {
        Task { @MainActor in
            await last?.value
            let idle = onIdle
            onIdle = nil
            idle?()
        }
    }

    /// Return the broker's answer, also 409 to a completion, and 404 to a deletion, whose earlier answer may be lost. Throws
    /// Refused for a problem that no later try can solve.
    private func call(_ method: String, _ url: String, body: Data? = nil, key: String? = nil) async throws -> (data: Data, status: Int) {
        guard let address = URL(string: url) else { throw Refused(errorDescription: "\(url) is no address.") }
        var request = URLRequest(url: address)
        request.httpMethod = method
        request.httpBody = body
        let bearer = try await token()
        request.setValue("Bearer \(bearer)", forHTTPHeaderField: "Authorization")
        if body != nil { request.setValue("application/json", forHTTPHeaderField: "Content-Type") }
        if let key { request.setValue(key, forHTTPHeaderField: "Idempotency-Key") }
        let (data, response) = try await URLSession.shared.data(for: request)
        let status = (response as? HTTPURLResponse)?.statusCode ?? 0
        if status < 400 || (status == 409 && method == "POST" && key == nil) || (status == 404 && method == "DELETE") {
            return (data, status)
        }
        if [401, 408, 409, 429].contains(status) || status >= 500 { throw URLError(.badServerResponse) }
        throw Refused(errorDescription: (try? decoded(data, as: Problem.self).detail) ?? "The broker answers \(status).")
    }

    private func decoded<Answer: Decodable>(_ data: Data, as type: Answer.Type = Answer.self) throws -> Answer {
        try JSONDecoder().decode(type, from: data)
    }

    private func save(_ upload: Upload, _ id: String) throws {
        try JSONEncoder().encode(upload).write(to: path(id, "upload.json"), options: .atomic)
    }

    private func path(_ id: String, _ file: String = "") -> URL {
        folder.appendingPathComponent(id).appendingPathComponent(file)
    }
}
